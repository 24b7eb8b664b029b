"""Chooses the replica that a consumer should read from (KIP-392): one in its own rack that has the fetch offset.

Rules, as in Kafka's RackAwareReplicaSelector: the leader, if it is in the consumer's rack or no other replica is. Else the
in-sync follower there with the largest log end; among equals the one that was caught up most recently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class ReadableReplica(NamedTuple):
    """An in-sync follower that holds the fetch offset. ``behind_ms``: time since it was last caught up."""

    broker_id: int
    log_end_offset: int
    behind_ms: int


def in_the_same_rack(
    rack: str, followers: Iterable[ReadableReplica], rack_of: Mapping[int, str | None]
) -> int | None:
    """The broker to read from instead of the leader, which is in another rack; None to stay with the leader. ``rack_of``:
    the racks of the brokers that the consumer can reach."""
    there = [f for f in followers if rack_of.get(f.broker_id) == rack]
    best = max(there, key=lambda f: (f.log_end_offset, -f.behind_ms, f.broker_id), default=None)
    return None if best is None else best.broker_id
