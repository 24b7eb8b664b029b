"""Background work on logs: retention, compaction, disk relief, moves between directories, the clean stop.

All of it asks ``log.removals`` before it removes segments. Begin at ``housekeeping``.
"""
