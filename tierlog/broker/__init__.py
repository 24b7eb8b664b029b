"""One broker: sockets, replicas, handlers, and what drives the deciding rooms.

Rooms lie on floors: one imports only from lower floors (``tests/tidy`` keeps the table). From below: ``work``, ``network``,
``disk``, ``replicas`` and ``cluster``, ``fetch`` and ``reports``, ``leading`` and ``following``, ``offload``, ``groups`` and
``upkeep``, ``views``, ``handlers``. ``node`` puts them together, ``api_table`` lists the served APIs, ``identity`` is what a
start checks before it writes anything; ``clock``, ``bugs`` and ``process`` are for all. Begin at ``node``.
"""
