"""Where the replicas of new partitions go: distinct racks first, then distinct hosts, then distinct brokers.

Two replicas share a host only when there are fewer hosts than replicas. Leaders and replicas are spread
evenly over the brokers of one call; ``start`` (drawn by the caller) decides which broker comes first, so that many
topics of one partition do not all land on one broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Candidate(NamedTuple):
    broker_id: int
    rack: str | None
    host: str


def place(
    partition_count: int, replication_factor: int, candidates: Iterable[Candidate], start: int
) -> list[tuple[int, ...]]:
    """Replicas per partition, preferred leader first. There must be at least ``replication_factor``
    candidates."""
    ordered = _alternate_racks(sorted(candidates, key=lambda c: c.broker_id))
    assert 1 <= replication_factor <= len(ordered), (replication_factor, len(ordered))
    shift = start % len(ordered)
    ordered = ordered[shift:] + ordered[:shift]
    rank = {c.broker_id: i for i, c in enumerate(ordered)}
    led = dict.fromkeys(rank, 0)
    held = dict.fromkeys(rank, 0)
    assignment = []
    for _ in range(partition_count):
        leader = min(ordered, key=lambda c: (led[c.broker_id], held[c.broker_id], rank[c.broker_id]))
        chosen = [leader]
        for _ in range(replication_factor - 1):
            chosen.append(_next_replica(ordered, chosen, held, rank))
        led[leader.broker_id] += 1
        for c in chosen:
            held[c.broker_id] += 1
        replicas = tuple(c.broker_id for c in chosen)
        assert len(set(replicas)) == replication_factor
        assignment.append(replicas)
    return assignment


def extend(
    replicas: Sequence[int], replication_factor: int, candidates: Iterable[Candidate], held: Mapping[int, int]
) -> tuple[int, ...]:
    """``replicas`` plus as many more as make ``replication_factor``, by the same rule. ``held``: how many replicas
    each broker already holds; brokers that hold few come first."""
    ordered = _alternate_racks(sorted(candidates, key=lambda c: c.broker_id))
    assert len({c.broker_id for c in ordered} | set(replicas)) >= replication_factor
    rank = {c.broker_id: i for i, c in enumerate(ordered)}
    known = {c.broker_id: c for c in ordered}
    chosen = [known.get(r, Candidate(r, None, "")) for r in replicas]
    counts = {c.broker_id: held.get(c.broker_id, 0) for c in ordered}
    while len(chosen) < replication_factor:
        chosen.append(_next_replica(ordered, chosen, counts, rank))
    return tuple(c.broker_id for c in chosen)


def _next_replica(
    ordered: Sequence[Candidate], chosen: Sequence[Candidate], held: dict[int, int], rank: dict[int, int]
) -> Candidate:
    racks = [c.rack for c in chosen]
    hosts = [c.host for c in chosen]
    # Start behind the leader in rank order, so that the followers of equally loaded brokers differ per leader.
    first = rank.get(chosen[0].broker_id, 0)
    return min(
        (c for c in ordered if c not in chosen),
        key=lambda c: (
            racks.count(c.rack),
            hosts.count(c.host),
            held[c.broker_id],
            (rank[c.broker_id] - first) % len(ordered),
        ),
    )


def _alternate_racks(candidates: Sequence[Candidate]) -> list[Candidate]:
    """One broker of each rack in turn, so that neighbours lie in different racks."""
    by_rack: dict[str | None, list[Candidate]] = {}
    for c in candidates:
        by_rack.setdefault(c.rack, []).append(c)
    queues = [by_rack[rack] for rack in sorted(by_rack, key=lambda rack: (rack is None, rack or ""))]
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)]
