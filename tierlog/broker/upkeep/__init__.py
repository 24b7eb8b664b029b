"""What happens to logs while nobody asks: retention, compaction, disk relief, moves between directories, the clean stop.

It may remove segments, and asks ``log.removals`` before it does. Begin at ``housekeeping``.
"""
