"""Serving followers: their fetches, what has news for them, and ISR changes on their way to the metadata store.

What is decided lies in ``replication.leader``. Begin at ``follower_fetch``.
"""
