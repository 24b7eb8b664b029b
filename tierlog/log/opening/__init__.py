"""Opens a directory as a log, and tells log from damage after an unclean stop. Begin at ``loading``."""
