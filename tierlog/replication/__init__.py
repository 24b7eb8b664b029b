"""The decisions of replication, without I/O: leader and follower state, ISR, high watermark, and requests waiting for it."""
