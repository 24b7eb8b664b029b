"""From a sealed local segment to an object: read once and checked (``scan``), then streamed to the store (``mover``).

Begin at ``mover``. It writes objects only; whether one counts is decided by a commit elsewhere.
"""
