"""The metadata store in etcd, for clusters: a gRPC client for just the calls that the port needs.

* ``protobuf``, ``messages``: bytes and etcd's messages (pure).
* ``keyspace``: the cluster's part of etcd's keys; transactions to and from messages (pure).
* ``settings``: the addresses of etcd and the credentials.
* ``endpoints``: connections, failover, tokens, and what an error implies about the outcome.
* ``watch``: one watch over reconnects.
* ``store``: the implementation of the port.
"""

import os

# gRPC reads these when it is imported, which only modules of this package do. Its own lines on stderr report each failed
# handshake; ours say what it means. Its fork handlers end children before they exec (measured: 1 of 50 under load).
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
