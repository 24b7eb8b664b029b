"""Replication throttles (KIP-73): how fast this broker sends listed replicas to followers, and copies them from leaders.

Rules, as in Kafka:

* a rate of a broker (``leader.replication.throttled.rate``, ``follower.…``) counts for the replicas that a topic lists
  (``leader.replication.throttled.replicas``, ``follower.…``: ``partition:broker``, or ``*``), and for nothing else;
* bytes of a listed replica are always counted, but held back only while it is not in sync: in-sync replication goes on.
"""

from __future__ import annotations

from collections.abc import Collection

from tierlog.broker.work.byte_rate import ByteRate

EVERY_REPLICA = "*"


class ReplicationQuotas:
    """Both directions of one broker."""

    __slots__ = ("follower", "leader")

    def __init__(self) -> None:
        self.leader = ByteRate()
        self.follower = ByteRate()


def is_listed(replicas: Collection[str], partition: int, broker_id: int) -> bool:
    """Whether a topic's list names that replica."""
    return bool(replicas) and (EVERY_REPLICA in replicas or f"{partition}:{broker_id}" in replicas)
