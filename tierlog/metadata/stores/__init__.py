"""The metadata store: its port, and what stands behind it (memory, SQLite, etcd).

Their tests are one contract suite. Begin at ``port``; what is asked and answered: ``metadata.transactions``.
"""
