"""Price books made from the price lists that providers publish: parsed JSON in, the text of a book out. Pure.

It may touch: ``prices``. Only what a book holds is read, everything else is left out; what a list lacks is told. Begin at
``aws`` and ``gcp``; ``book_text`` writes.
"""
