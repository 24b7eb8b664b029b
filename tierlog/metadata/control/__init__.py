"""What the controller decides: pure functions from the image to the transactions that are missing.

Driven by ``broker.cluster.controller_runner``. Begin at ``controller``, then ``election``.
"""
