"""The metadata store: its port, and the implementations behind it (memory, SQLite, etcd).

Their tests are one contract suite. Begin at ``port``; requests and answers are in ``metadata.transactions``.
"""
