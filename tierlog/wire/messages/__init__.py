"""One module per API, written by ``tools/generate_messages.py``; ``consumer_protocol`` and ``group_records``
hold what groups put inside other messages and into ``__consumer_offsets``."""
