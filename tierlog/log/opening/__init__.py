"""From a directory to a log: what of it is one after an unclean stop, and what is damage. Begin at ``loading``."""
