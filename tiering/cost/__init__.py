"""What the ledger's rows cost: price books, the bill, its division, and what else would cost. Pure but ``shipped``.

It may touch: the ledger's rows and this package's price books. Nothing of ``tierlog``; no clock, no store. Money is
``Decimal``, never a float. Begin at ``bill``; ``prices`` says what a price book is; ``docs/cost.md`` says all of it to
strangers, with three bills made by hand.
"""
