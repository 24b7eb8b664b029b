"""From a sealed local segment to an object: read once and checked (``scan``), then streamed to the store (``mover``).

Begin at ``port``, what a broker asks. ``mover`` does it in this process, ``worker`` in another one. Both write objects only;
whether one counts is decided by a commit elsewhere.
"""
