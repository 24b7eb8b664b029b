"""One module per served API; ``broker.api_table`` is the list of them."""
