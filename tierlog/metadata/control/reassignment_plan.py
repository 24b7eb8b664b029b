"""Reassignment plans (the wanted replicas of partitions), in the file format of kafka-reassign-partitions; and proposals.

A proposal moves as little as possible: first away from brokers that are to be emptied; then, if asked to balance, from the
broker that holds most to the one that holds least; last it evens out the preferred leaders. As for new topics, it prefers
distinct racks, then distinct hosts. Pure: values in, values out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tierlog.errors import UserError
from tierlog.metadata.control.placement import Candidate, extend

ANY_DIR = "any"


@dataclass(frozen=True, slots=True)
class Move:
    """One partition and its wanted replicas, preferred leader first. ``log_dirs``: one per replica, or empty."""

    topic: str
    partition: int
    replicas: tuple[int, ...]
    log_dirs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.topic}-{self.partition}"


# -- files


def plan_value(moves: Iterable[Move]) -> dict[str, Any]:
    """The plan as Kafka's tool writes it."""
    return {
        "version": 1,
        "partitions": [
            {
                "topic": move.topic,
                "partition": move.partition,
                "replicas": list(move.replicas),
                "log_dirs": list(move.log_dirs or (ANY_DIR,) * len(move.replicas)),
            }
            for move in moves
        ],
    }


def parse_plan(text: str, where: str) -> list[Move]:
    """Raises UserError that says what is wrong and where."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}") from None
    if isinstance(found, dict) and isinstance(found.get("plan"), dict):
        found = found["plan"]  # what `reassign plan --format json` wrote
    if not isinstance(found, dict) or not isinstance(found.get("partitions"), list):
        raise UserError(
            f'{where}: expected {{"version": 1, "partitions": [...]}}, as kafka-reassign-partitions has it'
        )
    if found.get("version", 1) != 1:
        raise UserError(f"{where}: version {found['version']} is not known, only 1 is")
    moves = [_parsed(row, f"{where}: partitions[{n}]") for n, row in enumerate(found["partitions"])]
    names = [move.name for move in moves]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where}: {name} stands there more than once")
    return moves


def _parsed(row: Any, where: str) -> Move:
    try:
        topic, partition, replicas = row["topic"], row["partition"], row["replicas"]
    except (TypeError, KeyError):
        raise UserError(f"{where}: expected topic, partition and replicas") from None
    log_dirs = row.get("log_dirs") or []
    ids_are_good = isinstance(replicas, list) and all(type(replica) is int for replica in replicas)
    if not isinstance(topic, str) or type(partition) is not int or not ids_are_good or not replicas:
        raise UserError(f"{where}: expected a topic's name, a partition's number and a list of broker ids")
    if len(set(replicas)) != len(replicas):
        raise UserError(f"{where}: {topic}-{partition} names a broker twice")
    if log_dirs and len(log_dirs) != len(replicas):
        raise UserError(
            f"{where}: {topic}-{partition} has {len(replicas)} replicas and {len(log_dirs)} log_dirs"
        )
    if all(log_dir == ANY_DIR for log_dir in log_dirs):
        log_dirs = []
    return Move(topic, partition, tuple(replicas), tuple(log_dirs))


# -- proposals


def propose(
    current: Sequence[Move], brokers: Sequence[Candidate], held: Mapping[int, int], *, balance: bool = True
) -> list[Move]:
    """The partitions of ``current`` that should change, with their new replicas, on ``brokers`` only. ``held``: replicas
    of each broker, those of other topics included. Raises UserError when there are too few brokers."""
    counts = {broker.broker_id: held.get(broker.broker_id, 0) for broker in brokers}
    wanted = [_evacuated(move, brokers, counts) for move in current]
    if balance:
        _even_out(wanted, brokers, counts)
        _even_out_leaders(wanted)
    return [new for old, new in zip(current, wanted, strict=True) if new.replicas != old.replicas]


def _evacuated(move: Move, brokers: Sequence[Candidate], counts: dict[int, int]) -> Move:
    """A replica that may stay keeps its place in the order."""
    if len(move.replicas) > len(brokers):
        raise UserError(
            f"{move.name} has {len(move.replicas)} replicas, and there are {len(brokers)} brokers to hold them"
        )
    keep = [replica for replica in move.replicas if replica in counts]
    if len(keep) == len(move.replicas):
        return move
    first = keep or [min(counts, key=lambda broker_id: (counts[broker_id], broker_id))]
    extended = extend(first, len(move.replicas), brokers, counts)
    new = iter([replica for replica in extended if replica not in keep])
    replicas = tuple(replica if replica in counts else next(new) for replica in move.replicas)
    for replica in set(replicas) - set(keep):
        counts[replica] += 1
    return Move(move.topic, move.partition, replicas)


def _even_out(moves: list[Move], brokers: Sequence[Candidate], counts: dict[int, int]) -> None:
    """Each step takes a replica from a broker that holds at least two more than the one that gets it, so this ends."""
    racks = {broker.broker_id: broker.rack for broker in brokers}
    on: dict[int, dict[int, None]] = {broker_id: {} for broker_id in counts}
    for n, move in enumerate(moves):
        for replica in move.replicas:
            on[replica][n] = None
    while True:
        for source, target in sorted(
            ((a, b) for a in counts for b in counts if counts[a] - counts[b] > 1),
            key=lambda pair: (counts[pair[1]] - counts[pair[0]], pair),
        ):
            found = [n for n in on[source] if _may_swap(moves[n], source, target, racks)]
            if found:
                n = found[0]
                break
        else:
            return
        move = moves[n]
        replicas = tuple(target if replica == source else replica for replica in move.replicas)
        moves[n] = Move(move.topic, move.partition, replicas)
        del on[source][n]
        on[target][n] = None
        counts[source] -= 1
        counts[target] += 1


def _may_swap(move: Move, source: int, target: int, racks: Mapping[int, str | None]) -> bool:
    """Not if the partition would then be in fewer racks than before."""
    if target in move.replicas:
        return False
    others = [racks[replica] for replica in move.replicas if replica != source]
    return racks[target] not in others or racks[source] in others


def _even_out_leaders(moves: list[Move]) -> None:
    led: dict[int, int] = {}
    for move in moves:
        led[move.replicas[0]] = led.get(move.replicas[0], 0) + 1
    for n, move in enumerate(moves):
        first = move.replicas[0]
        least = min(move.replicas, key=lambda replica: led.get(replica, 0))
        if led[first] - led.get(least, 0) > 1:
            led[first] -= 1
            led[least] = led.get(least, 0) + 1
            rest = tuple(replica for replica in move.replicas if replica != least)
            moves[n] = Move(move.topic, move.partition, (least, *rest))
