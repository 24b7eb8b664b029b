"""Producer ids of one log: their state, its snapshots on disk, and the state after a truncation. Begin at ``state``."""
