"""Moves partitions between brokers: begins, watches and cancels over the admin APIs. Works against any Kafka broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tierlog.admin import dir_wishes, throttles
from tierlog.admin.client import Client
from tierlog.admin.cluster import describe_cluster
from tierlog.admin.errors import check, describe_error
from tierlog.admin.topics import existing
from tierlog.errors import ErrorCode, UserError
from tierlog.metadata.control.placement import Candidate
from tierlog.metadata.control.reassignment_plan import Move, plan_value, propose
from tierlog.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignableTopic,
)
from tierlog.wire.messages.describe_log_dirs import (
    DescribableLogDirTopic,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
)
from tierlog.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)
from tierlog.wire.messages.metadata import MetadataResponsePartition

PARTITIONS_PER_REQUEST = 500
POLL_S = 0.5
LOOKS = 3

Rows = Mapping[tuple[str, int], MetadataResponsePartition]


# -- plan


def plan(
    client: Client, topics: Sequence[str] | None, brokers: Sequence[int] | None, *, balance: bool = True
) -> dict[str, Any]:
    """A proposal for these topics (None: all) on these brokers (None: all active), and the present assignment. Raises
    UserError."""
    rows = partitions(client, None)
    names = None if topics is None else {topic.name for topic in existing(client, topics)}
    chosen = {key: row for key, row in rows.items() if names is None or key[0] in names}
    candidates = candidates_of(client)
    if brokers is not None:
        known = {candidate.broker_id for candidate in candidates}
        unknown = sorted(set(brokers) - known)
        if unknown:
            raise UserError(
                f"broker {unknown[0]} is not active; active are {', '.join(map(str, sorted(known)))}"
            )
        candidates = [candidate for candidate in candidates if candidate.broker_id in brokers]
    current = moves_of(chosen)
    proposed = propose(current, candidates, held_by(rows), balance=balance)
    changed = {move.name for move in proposed}
    return {
        "plan": plan_value(proposed),
        "current": plan_value(move for move in current if move.name in changed),
    }


def candidates_of(client: Client) -> list[Candidate]:
    """The active brokers, for placement. The host that clients connect to identifies the machine."""
    return [
        Candidate(broker.broker_id, broker.rack, f"{broker.host}")
        for broker in describe_cluster(client).brokers
        if not broker.is_fenced
    ]


def partitions(
    client: Client, topics: Iterable[str] | None
) -> dict[tuple[str, int], MetadataResponsePartition]:
    names = None if topics is None else sorted(topics)
    if names == []:
        return {}
    return {
        (topic.name or "", row.partition_index): row
        for topic in existing(client, names)
        for row in sorted(topic.partitions, key=lambda row: row.partition_index)
    }


def moves_of(rows: Rows) -> list[Move]:
    """The present assignment, as a plan that would restore it."""
    return [Move(topic, index, tuple(row.replica_nodes)) for (topic, index), row in rows.items()]


def held_by(rows: Rows) -> dict[int, int]:
    held: dict[int, int] = {}
    for row in rows.values():
        for replica in row.replica_nodes:
            held[replica] = held.get(replica, 0) + 1
    return held


# -- execute and cancel


def execute(client: Client, moves: Sequence[Move], throttle_bytes_per_second: int | None) -> dict[str, Any]:
    """Begins the moves, and throttles them first; an existing throttle gets the new rate. Raises UserError when no move
    can begin."""
    rows = partitions(client, {move.topic for move in moves})
    for move in moves:
        if (move.topic, move.partition) not in rows:
            raise UserError(f"there is no partition {move.name}")
    before = {key: rows[key] for key in ((move.topic, move.partition) for move in moves)}
    if throttle_bytes_per_second is not None:
        active = [candidate.broker_id for candidate in candidates_of(client)]
        replicas = {key: tuple(row.replica_nodes) for key, row in before.items()}
        throttles.throttle(client, moves, replicas, active, throttle_bytes_per_second)
    failures = alter(client, [(move, list(move.replicas)) for move in moves])
    begun = len(moves) - len(failures)
    failures |= dir_wishes.ask(
        client, [move for move in moves if move.log_dirs and move.name not in failures]
    )
    return {
        "begun": begun,
        "failures": failures,
        "throttle_bytes_per_second": throttle_bytes_per_second,
        "rollback": plan_value(moves_of(before)),
    }


def cancel(client: Client, moves: Sequence[Move] | None) -> dict[str, Any]:
    """Cancels the moves of a plan, or all that are under way, and removes their throttles."""
    under_way = ongoing(client)
    if moves is not None:
        wanted = {(move.topic, move.partition) for move in moves}
        under_way = {key: value for key, value in under_way.items() if key in wanted}
    cancelled = [Move(topic, index, ()) for topic, index in under_way]
    failures = alter(client, [(move, None) for move in cancelled])
    topics = {move.topic for move in (*cancelled, *(moves or ()))}
    unthrottle(client, topics)
    return {
        "cancelled": [move.name for move in cancelled if move.name not in failures],
        "failures": failures,
    }


def alter(client: Client, wishes: Sequence[tuple[Move, list[int] | None]]) -> dict[str, str]:
    """Requests the replicas of partitions, None to cancel. Returns the failures by partition."""
    failures: dict[str, str] = {}
    for first in range(0, len(wishes), PARTITIONS_PER_REQUEST):
        topics: dict[str, ReassignableTopic] = {}
        for move, replicas in wishes[first : first + PARTITIONS_PER_REQUEST]:
            topic = topics.setdefault(move.topic, ReassignableTopic(name=move.topic))
            topic.partitions.append(ReassignablePartition(partition_index=move.partition, replicas=replicas))
        request = AlterPartitionReassignmentsRequest(
            topics=list(topics.values()), timeout_ms=client.timeout_ms
        )
        answer = client.request(request, AlterPartitionReassignmentsResponse)
        check(answer.error_code, "the reassignment", answer.error_message)
        for result in answer.responses:
            for row in result.partitions:
                if row.error_code and row.error_code != ErrorCode.NO_REASSIGNMENT_IN_PROGRESS:
                    name = f"{result.name}-{row.partition_index}"
                    failures[name] = describe_error(row.error_code, row.error_message)
    return failures


def unthrottle(client: Client, topics: Iterable[str]) -> bool:
    """Removes the throttles of these topics, and the rates once nothing moves any more. Returns whether the rates went."""
    throttles.remove(client, sorted(topics), ())
    if ongoing(client):
        return False
    throttles.remove(client, (), [candidate.broker_id for candidate in candidates_of(client)])
    return True


# -- status


class UnderWay:
    """One partition that moves. ``target``: its replicas when the move is done."""

    __slots__ = ("adding", "removing", "target")

    def __init__(self, replicas: Sequence[int], adding: Sequence[int], removing: Sequence[int]) -> None:
        self.adding = tuple(adding)
        self.removing = tuple(removing)
        self.target = tuple(replica for replica in replicas if replica not in removing)


def ongoing(client: Client) -> dict[tuple[str, int], UnderWay]:
    """All moves under way, by topic and partition."""
    request = ListPartitionReassignmentsRequest(topics=None, timeout_ms=client.timeout_ms)
    answer = client.request(request, ListPartitionReassignmentsResponse)
    check(answer.error_code, "the list of reassignments", answer.error_message)
    return {
        (topic.name, row.partition_index): UnderWay(row.replicas, row.adding_replicas, row.removing_replicas)
        for topic in answer.topics
        for row in topic.partitions
    }


def status(client: Client, moves: Sequence[Move] | None, sample_s: float = 1.0) -> dict[str, Any]:
    """The progress of a plan, or of all moves. The rate is measured over ``sample_s`` seconds, and up to ``LOOKS`` times as
    long where nothing comes: a throttled move goes in bursts. It and the time left are None when nothing was copied. Bytes
    are those of local logs: a new replica does not copy what it finds in the tier, so the bytes left are an upper bound."""
    first = snapshot(client, moves)
    if first["moving"] == 0 or sample_s <= 0:
        return first
    began_s = time.monotonic()
    for _ in range(LOOKS):
        time.sleep(sample_s)
        second = snapshot(client, moves)
        copied = second["bytes_copied"] - first["bytes_copied"]
        if copied or not second["moving"]:
            break
    if second["moving"] and copied > 0:
        second["bytes_per_second"] = int(copied / (time.monotonic() - began_s))
        if second["bytes_per_second"]:
            second["eta_s"] = round(second["bytes_left"] / second["bytes_per_second"], 1)
    return second


def snapshot(client: Client, moves: Sequence[Move] | None) -> dict[str, Any]:
    under_way = ongoing(client)
    if moves is None:
        moves = [Move(topic, index, way.target) for (topic, index), way in under_way.items()]
    rows = partitions(client, {move.topic for move in moves})
    sizes = sizes_of(client, {key: way for key, way in under_way.items() if key in rows}, rows)
    table = [_status_row(move, under_way, rows, sizes) for move in moves]
    return {
        "done": sum(row["state"] == "done" for row in table),
        "moving": sum(row["state"] == "moving" for row in table),
        "elsewhere": sum(row["state"] == "elsewhere" for row in table),
        "bytes_copied": sum(row["bytes_copied"] for row in table),
        "bytes_left": sum(row["bytes_left"] for row in table),
        "bytes_per_second": None,
        "eta_s": None,
        "partitions": table,
    }


def _status_row(
    move: Move,
    under_way: Mapping[tuple[str, int], UnderWay],
    rows: Rows,
    sizes: Mapping[tuple[int, str, int], int],
) -> dict[str, Any]:
    """``state``: done, moving, or elsewhere (the partition is not where the plan wants it, and does not move there)."""
    key = (move.topic, move.partition)
    row, way = rows.get(key), under_way.get(key)
    if row is None:
        raise UserError(f"there is no partition {move.name}")
    state = "elsewhere"
    if way is not None and way.target == move.replicas:
        state = "moving"
    elif way is None and tuple(row.replica_nodes) == move.replicas:
        state = "done"
    left = copied = 0
    for replica in way.adding if way is not None and state == "moving" else ():
        has = sizes.get((replica, *key), 0)
        copied += has
        if replica not in row.isr_nodes:
            left += max(sizes.get((row.leader_id, *key), 0) - has, 0)
    return {
        "topic": move.topic,
        "partition": move.partition,
        "state": state,
        "replicas": list(row.replica_nodes),
        "target": list(move.replicas),
        "adding": list(way.adding) if way is not None else [],
        "bytes_copied": copied,
        "bytes_left": left,
    }


def sizes_of(
    client: Client, under_way: Mapping[tuple[str, int], UnderWay], rows: Rows
) -> dict[tuple[int, str, int], int]:
    """(broker, topic, partition) → local bytes, for replicas that copy and replicas that are copied from."""
    asked: dict[int, dict[str, list[int]]] = {}
    for (topic, index), way in under_way.items():
        for broker_id in {rows[topic, index].leader_id, *way.adding} - {-1}:
            asked.setdefault(broker_id, {}).setdefault(topic, []).append(index)
    sizes: dict[tuple[int, str, int], int] = {}
    for broker_id, wanted in asked.items():
        topics = [DescribableLogDirTopic(topic=topic, partitions=which) for topic, which in wanted.items()]
        try:
            answer = client.node(broker_id).request(
                DescribeLogDirsRequest(topics=topics), DescribeLogDirsResponse
            )
        except UserError:
            continue  # the broker is away; its bytes are not known
        for result in answer.results:
            for found in result.topics:
                for row in found.partitions:
                    if not row.is_future_key:
                        sizes[broker_id, found.name, row.partition_index] = row.partition_size
    return sizes


def wait(
    client: Client,
    moves: Sequence[Move],
    timeout_s: float | None,
    tell: Callable[[dict[str, Any]], None] = lambda progress: None,
) -> dict[str, Any]:
    """Waits until the whole plan is done or the time is over. Returns the last status. ``tell`` gets the progress."""
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        progress = status(client, moves, POLL_S)
        if progress["moving"] == 0 or (deadline_s is not None and time.monotonic() >= deadline_s):
            return progress
        tell(progress)
