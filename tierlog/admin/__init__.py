"""Shared by the command line and the console: reads and changes a cluster over the Kafka protocol, as plain values.

It prints nothing. It works with any Kafka cluster, except where a module says otherwise. Begin at ``client``.
"""
