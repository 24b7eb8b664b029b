"""Compaction of a log: what is due and in which groups (``plan``), what stays of a batch (``filter``), the files
(``output``), and one run over all of it in slices (``run``).
"""
