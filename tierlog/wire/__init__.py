"""The Kafka protocol, sans-IO: bytes in, messages out, and back.

* ``schema``: what a message class is; ``messages/``: one generated module per API
* ``decoder``, ``encoder`` (over ``source``): compile a class and a version into one flat function
* ``fast_produce``, ``fast_fetch``: the same by hand, for the shapes that fill a busy broker's day
* ``codec``: ``decode`` and ``encode``, the only way in
* ``framing``: sizes and headers; ``registry``: the table of APIs

Rules: malformed input raises ``MalformedMessage`` and nothing else; a length is never trusted beyond the bytes that
remain; records are never copied; a message that its version cannot carry is our own bug (``EncodeError``).
"""
