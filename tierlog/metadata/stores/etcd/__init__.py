"""The metadata store in etcd, for clusters: a client over gRPC that knows only what the port asks for.

* ``protobuf``, ``messages``: bytes and etcd's messages (pure).
* ``keyspace``: the cluster's part of etcd's keys; transactions to and from messages (pure).
* ``settings``: where etcd is and how one gets in.
* ``endpoints``: connections, failover, tokens, and what an error says about the outcome.
* ``watch``: one watch over reconnects.
* ``store``: the port.
"""

import os

# Read when gRPC is imported, which only modules of this package do. Its own lines on stderr tell each failed handshake;
# ours tell what it means. Its handlers around a fork end children before they exec (measured: 1 of 50 under load).
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
