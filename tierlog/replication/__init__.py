"""Deciding room of replication: leader state, high watermark and the waiters behind it."""
