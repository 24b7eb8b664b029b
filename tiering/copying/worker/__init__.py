"""Copying in a process of its own, niced, so that reading, checksums and uploads take no turn of a broker's loop.

::

    broker: copier ─ run ─ channel ══ socket pair ══ channel ─ serving ─ mover, store   :worker

The broker decides (which segment, its name and class, when bytes may be sent), the worker does. Begin at ``messages``, which
lists all that they say to each other. What a worker that dies leaves behind was never committed: the sweeps find it.
"""
