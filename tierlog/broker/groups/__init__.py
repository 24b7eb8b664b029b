"""Drives the coordinator shards: loads them from their logs, appends their decisions, replies once those are committed.

The decisions are made in ``coordination``. Begin at ``shard_runtime``.
"""
