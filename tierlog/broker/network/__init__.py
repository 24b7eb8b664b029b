"""Bytes in, replies out, in order; and who may use how much memory for them.

It knows no API: the dispatcher is given rows, a row's handler is a function of the request. It may touch sockets and nothing
else. Begin at ``connection``, then ``dispatch``.
"""
