"""Copying from leaders: one fetcher per leader broker, and what its answers do to the logs here.

What is decided lies in ``replication.follower``. Begin at ``fetcher``.
"""
