"""Values to typed columns: JSON, and Avro and Protobuf with a schema registry. What does not fit becomes a dead letter.

Doing, and blocking: the registry is asked from the thread that decodes. Values are anybody's: depth, counts and the ids that
are asked for are bounded, and a value that cannot be read costs itself only. Needs numpy and pyarrow; fastavro and
protobuf are imported when they are used. Begin at ``decoding`` (batches), then ``port`` (what a decoder is).
"""
