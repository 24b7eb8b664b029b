"""The replicas that this broker hosts: each partition, its log, and its role as leader or follower.

This room follows the metadata image and may open, close and set aside logs. Begin at ``partition``, then ``hosted`` and
``roles``.
"""
