"""Producer ids of one log: their state, snapshots of it on disk, and what a cut log's state is. Begin at ``state``."""
