"""What the command line and the console share: a cluster asked and changed over the Kafka protocol, as plain values.

It prints nothing. Any Kafka cluster will do but for what says otherwise. Begin at ``client``.
"""
