"""``tierlog table``: blocking, and imported for each start, so that heavy libraries come in only when a command runs."""
