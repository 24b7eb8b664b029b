"""Reads of old offsets: from a fetch offset to chunks of objects, through a bounded cache. Begin at ``reader``."""
