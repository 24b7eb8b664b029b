"""What this broker hosts, and in which role: the partition, its log, who leads and who follows.

It follows the metadata image and may open, close and set aside logs. Begin at ``partition``, then ``hosted`` and ``roles``.
"""
