"""Iceberg tables of topics: written by the replay sink, or kept up to date by ``tierlog table``. Doing, and blocking but
for ``following`` and ``described``; ``offsets`` and ``merging`` decide.

Data and the offsets that they are of go into a table by one commit, so the table is the only memory: whatever is killed,
its newest snapshot says what is there. pyiceberg is imported once something is opened. Begin at ``offsets`` (what is
remembered), ``commits`` (how it stays exactly once), ``following`` (the process).
"""
