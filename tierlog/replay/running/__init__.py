"""A replay into a sink, from its plan to its end: what ``tierlog replay`` runs.

It may touch the reader and the sinks of ``tierlog.replay``. Begin at ``run``; ``job`` says what is asked for, ``state`` what
it is resumed from, ``keeping`` when it is written.
"""
