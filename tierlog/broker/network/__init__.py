"""Bytes in, replies out, in order, and the memory that each connection may use for them.

This room knows no API: the dispatcher is given rows, and a row's handler is a function of the request. It may touch sockets
and nothing else. Begin at ``connection``, then ``dispatch``.
"""
