"""One module per served API; ``broker.api_table`` is the list of them.

A handler checks the request, calls one thing and shapes the answer; its module's head is its contract. Only handlers see
``Services``, all that the broker has. ``excess`` and ``forwarding`` wrap those of admin APIs. Begin at any API.
"""
