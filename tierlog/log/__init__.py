"""One partition's log on local disk, in Kafka's own files. Synchronous; knows no loop, no replica, no tier.

It may touch one directory, by ``files.filesystem`` alone. Sub-rooms: ``files``, ``producers``, ``opening`` (what a start
does), ``compaction``. Begin at ``log``; an append is ``append``, then ``writing``; a read is ``reading``.
"""
