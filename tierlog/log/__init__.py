"""One partition's log on local disk, in Kafka's own files. Synchronous; knows no loop, no replica, no tier.

It changes one directory, and only through ``files.filesystem``. Sub-packages: ``files``, ``producers``, ``opening`` (what
happens at a start), ``compaction``. Begin at ``log``; an append is ``append``, then ``writing``; a read is ``reading``.
"""
