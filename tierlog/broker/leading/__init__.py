"""Serves followers: their fetches, the watch for partitions with news, and ISR changes on their way to the metadata store.

The decisions are made in ``replication.leader``. Begin at ``follower_fetch``.
"""
