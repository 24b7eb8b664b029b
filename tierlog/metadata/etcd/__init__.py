"""The metadata store in etcd, for clusters: a client over gRPC that knows only what the port asks for.

* ``protobuf``, ``messages``: bytes and etcd's messages (pure).
* ``keyspace``: the cluster's part of etcd's keys; transactions to and from messages (pure).
* ``settings``: where etcd is and how one gets in.
* ``endpoints``: connections, failover, tokens, and what an error says about the outcome.
* ``watch``: one watch over reconnects.
* ``store``: the port.
"""
