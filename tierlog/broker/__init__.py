"""One broker: sockets, replicas, handlers, and the drivers of the deciding rooms (``ARCHITECTURE.md``).

Rooms lie on floors: a room imports only from lower floors (``tests/tidy`` keeps the table). From below: ``work``,
``network``, ``disk``, ``replicas`` and ``cluster``, ``fetch`` and ``reports``, ``leading`` and ``following``, ``offload``,
``groups`` and ``upkeep``, ``views``, ``handlers``. ``node`` puts them together, ``api_table`` lists the served APIs,
``identity`` is what a start checks before it writes anything; ``clock``, ``bugs`` and ``process`` are for all. Begin at
``node``.
"""
