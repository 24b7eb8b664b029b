"""How full disks will be: series from the ledger's rows, a forecast with a band, days until they are full. Pure.

It may touch: the ledger's rows. Nothing of ``tierlog``; time and randomness come in as arguments. Begin at ``forecast``.
"""
