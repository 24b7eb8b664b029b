"""What a log directory is: its lock, its identity, its small files, its syncs, logs on their way in and out of it.

It knows no partition and no cluster. It may touch the files of log directories. Begin at ``log_dirs``.
"""
