"""Replication throttles around a reassignment, as kafka-reassign-partitions sets and removes them (KIP-73).

The rate goes to every broker that takes part. A topic's configs list the replicas that are copied from (all present
ones) and the replicas that copy (the new ones).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tierlog.admin.client import Client, Connection
from tierlog.admin.errors import check
from tierlog.metadata.control.reassignment_plan import Move
from tierlog.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

TOPIC, BROKER = 2, 4
SET, DELETE, APPEND = 0, 1, 2
RATES = ("leader.replication.throttled.rate", "follower.replication.throttled.rate")
LEADERS = "leader.replication.throttled.replicas"
FOLLOWERS = "follower.replication.throttled.replicas"


def throttle(
    client: Client,
    moves: Sequence[Move],
    current: Mapping[tuple[str, int], Sequence[int]],
    active: Iterable[int],
    bytes_per_second: int,
) -> None:
    """Limits these moves. ``current``: the present replicas. Raises UserError."""
    listed: dict[str, tuple[list[str], list[str]]] = {}
    taking_part: set[int] = set()
    for move in moves:
        before = current[move.topic, move.partition]
        leaders, followers = listed.setdefault(move.topic, ([], []))
        leaders += [f"{move.partition}:{replica}" for replica in before]
        followers += [f"{move.partition}:{replica}" for replica in move.replicas if replica not in before]
        taking_part |= {*before, *move.replicas}
    alter(
        client,
        TOPIC,
        {
            topic: [(LEADERS, APPEND, ",".join(leaders))]
            + ([(FOLLOWERS, APPEND, ",".join(followers))] if followers else [])
            for topic, (leaders, followers) in listed.items()
        },
    )
    set_rates(client, sorted(taking_part & set(active)), bytes_per_second)


def set_rates(client: Client, brokers: Sequence[int], bytes_per_second: int) -> None:
    """Each broker in a request of its own, as Kafka requires."""
    for broker_id in brokers:
        rates = [(name, SET, str(bytes_per_second)) for name in RATES]
        alter(client.node(broker_id), BROKER, {str(broker_id): rates})


def remove(client: Client, topics: Iterable[str], brokers: Iterable[int]) -> None:
    """Removes both lists from the topics and both rates from the brokers; absent ones are fine."""
    alter(client, TOPIC, {topic: [(LEADERS, DELETE, None), (FOLLOWERS, DELETE, None)] for topic in topics})
    for broker_id in brokers:
        alter(client.node(broker_id), BROKER, {str(broker_id): [(name, DELETE, None) for name in RATES]})


def alter(
    asked: Client | Connection, kind: int, changes: Mapping[str, Sequence[tuple[str, int, str | None]]]
) -> None:
    """Changes configs, (name, operation, value) for each resource. Raises UserError."""
    if not changes:
        return
    resources = [
        AlterConfigsResource(
            resource_type=kind,
            resource_name=name,
            configs=[AlterableConfig(name=key, config_operation=op, value=value) for key, op, value in rows],
        )
        for name, rows in changes.items()
    ]
    request = IncrementalAlterConfigsRequest(resources=resources)
    for result in asked.request(request, IncrementalAlterConfigsResponse).responses:
        check(result.error_code, result.resource_name, result.error_message)
