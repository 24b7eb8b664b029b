"""The remote tier: sealed segments in an object store, and their head in a metadata store.

It knows segments, batches and bytes, but neither tierlog nor Kafka's protocol. ``model``, ``planner``, ``lifecycle`` and
``pages`` decide; ``mover`` and ``manifest`` write, ``reading`` reads; ``objects`` are the stores. Begin at ``model``.
"""
