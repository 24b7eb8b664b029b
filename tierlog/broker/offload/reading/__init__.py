"""Reads of the tier, of the partitions that this broker leads and of those that it follows.

* ``reads``: what a Fetch asks for. Begin there.
* ``followed``: tiers of followed partitions, for the room that they make on the disk.
* ``followed_views``: what a follower knows of a tier, to read from it.
* ``disk_cache``: chunks that were read, on a local disk.
"""
