"""The ledger: what was asked of the object store, moved and held, hour by hour, kept in the bucket itself.

It may touch: the object store port and this package's leaves. Nothing of ``tierlog``. Begin at ``rows``, which says what is
counted; ``docs/ledger.md`` says it to strangers.
"""
