"""How work is spread, so that nothing holds the loop for long and no task ends unnoticed.

This room knows no request and no log. ``background`` starts every task of the broker; long requests go through
``slices``, blocking work on batches through ``beside_loop``. Begin at ``slices``.
"""
