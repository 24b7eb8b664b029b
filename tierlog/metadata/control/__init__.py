"""The controller's decisions: pure functions from the image to the transactions that are still to be done.

Driven by ``broker.cluster.controller_runner``. Begin at ``controller``, then ``election``.
"""
