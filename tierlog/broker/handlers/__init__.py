"""One module per served API; ``broker.api_table`` is the list of them.

A handler checks the request, calls one thing and shapes the answer; its module's docstring is its contract. Only handlers
see ``Services``, the bag of all the broker's parts. ``excess`` and ``forwarding`` wrap the handlers of admin APIs. Begin at
any API.
"""
