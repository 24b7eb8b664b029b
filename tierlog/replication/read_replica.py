"""Which replica a consumer had better read from (KIP-392): one in its own rack, if that one has what it asks for.

Rules, as Kafka's RackAwareReplicaSelector: the leader where it is in the consumer's rack or nobody else is; else of the
in-sync followers there the one with the longest log, then the one that was caught up last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class ReadableReplica(NamedTuple):
    """An in-sync follower that holds the offset asked for. ``behind_ms``: since it was last caught up."""

    broker_id: int
    log_end_offset: int
    behind_ms: int


def in_the_same_rack(
    rack: str, followers: Iterable[ReadableReplica], rack_of: Mapping[int, str | None]
) -> int | None:
    """The broker to read from instead of the leader, whose rack is another one; None to stay. ``rack_of``: of the brokers
    that the consumer can reach."""
    there = [f for f in followers if rack_of.get(f.broker_id) == rack]
    best = max(there, key=lambda f: (f.log_end_offset, -f.behind_ms, f.broker_id), default=None)
    return None if best is None else best.broker_id
