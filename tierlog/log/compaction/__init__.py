"""Compaction of a log: which segments are due and in which groups (``plan``), which records of a batch stay (``filter``),
the output files (``output``), and one run over all of it in slices (``run``).
"""
