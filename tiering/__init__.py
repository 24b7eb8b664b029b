"""The remote tier: sealed segments in an object store, and what a metadata store knows of them.

It knows segments, batches and bytes, and nothing of tierlog or of Kafka's protocol. ``model``, ``planner``, ``lifecycle``
and ``pages`` decide; ``mover`` and ``manifest`` write, ``reading`` reads; ``objects`` are the stores. Begin at ``model``.
"""
