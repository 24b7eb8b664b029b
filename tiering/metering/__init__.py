"""Who caused which request to the object store: one row of sums for each cause, topic, partition, operation and client.

Begin at ``accounts``. May touch nothing: the rooms that ask a store tell it what they have asked.

* ``attribution``: whoever drives says why, and for whom (``with attributed(Cause.SWEEP): ...``); tasks inherit it when they
  begin. What nobody has said counts as ``other``, and a test of a whole broker finds none of it.
* ``meter``: what a client of a store is given. Each HTTP request is told once, when it was answered or given up.
* ``meta_sizes``: what lies in buckets beside segments, told from the same requests.
* ``accounts``: the sums. A ledger's writer takes them with ``Accounts.drain``. Only the loop of the process changes them.

A process of its own (the copy worker, S3's control process, a look at a bucket) tells each request to its broker as soon as
it is over. When such a process is killed, what it had under way is not counted; ``docs/ledger.md`` has the bounds.
"""
