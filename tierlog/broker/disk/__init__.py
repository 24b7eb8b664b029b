"""Log directories: their lock, identity, small files and syncs, and logs that move in and out of them.

This room knows no partition and no cluster. It may touch the files of log directories. Begin at ``log_dirs``.
"""
