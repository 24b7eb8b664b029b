"""How work is spread, so that nothing holds the loop for long and no task ends unnoticed.

It knows no request and no log. Every task of the broker is begun by ``background``; long requests go through
``slices``, blocking work on batches through ``beside_loop``. Begin at ``slices``.
"""
