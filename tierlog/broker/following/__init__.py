"""Copies records from leaders: one fetcher per leader broker, whose answers are applied to the local logs.

The decisions are made in ``replication.follower``. Begin at ``fetcher``.
"""
