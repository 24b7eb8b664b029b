"""This broker's part of the ledger: what it counts, and how that comes into the bucket (``docs/ledger.md``).

It may touch: the object store, the worker process that writes Parquet, and, to look at them, what is hosted and led here.
``tiering.ledger`` says what a row is and how rows are added up. Begin at ``ledger``; what is counted comes from ``sources``
(what happens) and ``look`` (what is held).
"""
