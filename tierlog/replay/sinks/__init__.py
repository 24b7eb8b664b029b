"""Where replayed records go: Parquet files in a directory or a bucket, lines of JSON, another topic, or nowhere.

Doing, and blocking: the driver calls a sink from a thread, one chunk after the other. A sink says what is durable by itself
(``done``: Parquet, whose files are named by their offsets), or tells the driver to keep that in the file to resume from.
Begin at ``port``.
"""
