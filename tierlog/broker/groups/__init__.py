"""Drives the coordinator shards: loads them from their logs, appends what they decide, replies once it is committed.

What is decided lies in ``coordination``. Begin at ``shard_runtime``.
"""
