"""Copies sealed segments to the object store: the driver of ``tiering`` for the partitions that this broker leads.

* ``heads``: reads and commits tier heads in the metadata store, fenced by leader epoch and registration.
* ``tier``: the state of one led partition's remote part (``Partition.remote``).
* ``sources``: a range of the local log in the form that the mover takes.
* ``work``: carries out one partition's plan.
* ``driver``: schedules the partitions' jobs; follows leadership; commits log starts.
* ``recovery``: at the start of the broker, has logs that are behind their tier begin at the tiered end.
* ``cleaning``: finds and deletes what nobody needs any more, deleted topics included.
* ``reading``: reads of the tier, by the leader and by followers.
* ``stores``: which object store a topic has.
* ``copiers``: the processes that copy segments; ``copy_worker`` is their program.
* ``observed``: metrics of the object store and the chunk cache.
* ``disk_cache``: the disk cache of remote reads, and which of its entries are dead.
* ``bucket``: claims and checks the bucket.
* ``service``: puts all of this together for the node.
"""
