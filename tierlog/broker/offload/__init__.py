"""Moves what is sealed to the object store: the driver of ``tiering`` for the partitions that this broker leads.

* ``heads``: reads and commits tier heads in the metadata store, fenced by leader epoch and registration.
* ``tier``: what is known of one led partition's remote part (``Partition.remote``).
* ``sources``: a range of the local log as the mover wants it.
* ``work``: carries out one partition's plan.
* ``driver``: whose turn it is; follows leadership; commits log starts.
* ``recovery``: at the start of the broker, logs that are behind their tier begin at the tiered end.
* ``purge``: deleted topics.
* ``observed``: what the metrics show of the object store and the chunk cache.
* ``bucket``: claims and checks the bucket.
* ``service``: puts all of this together for the node.
"""
