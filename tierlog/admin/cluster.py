"""A cluster as a whole, as plain values: its brokers, and whether one of them may be restarted. Works with any Kafka
cluster; only tierlog reports the metadata store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tierlog.admin.client import Client, Connection
from tierlog.admin.errors import check
from tierlog.admin.topics import existing
from tierlog.errors import UserError
from tierlog.wire.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from tierlog.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)

TOPIC, BROKER = 2, 4  # resource types of DescribeConfigs
TOPICS_PER_REQUEST = 1000
METADATA_STORE = "metadata.store"
MIN_INSYNC_REPLICAS = "min.insync.replicas"
MAX_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """One partition as Metadata reports it."""

    name: str
    leader: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    min_isr: int = 1

    @property
    def is_under_replicated(self) -> bool:
        return len(self.isr) < len(self.replicas)

    @property
    def required(self) -> int:
        """How many in-sync replicas acks=all needs."""
        return min(self.min_isr, len(self.replicas))


@dataclass(frozen=True, slots=True)
class BrokerRow:
    """``state``: active, fenced (registered, and may not lead) or gone (holds replicas and is not registered)."""

    broker_id: int
    host: str | None
    port: int | None
    rack: str | None
    state: str


def status_of(client: Client) -> dict[str, Any]:
    """The content of ``cluster status``."""
    cluster = describe_cluster(client)
    partitions = partitions_of(client)
    brokers = broker_rows(cluster, partitions)
    controller = cluster.controller_id if cluster.controller_id >= 0 else None
    rows = [
        {
            "id": broker.broker_id,
            "host": broker.host,
            "port": broker.port,
            "rack": broker.rack,
            "state": broker.state,
            "controller": broker.broker_id == controller,
            "leaders": sum(p.leader == broker.broker_id for p in partitions),
            "replicas": sum(broker.broker_id in p.replicas for p in partitions),
            "under_replicated": sum(
                p.leader == broker.broker_id and p.is_under_replicated for p in partitions
            ),
            "out_of_sync": sum(broker.broker_id in set(p.replicas) - set(p.isr) for p in partitions),
        }
        for broker in brokers
    ]
    return {
        "cluster_id": cluster.cluster_id,
        "controller": controller,
        "metadata_store": metadata_store(client, brokers),
        "partitions": len(partitions),
        "under_replicated": sum(p.is_under_replicated for p in partitions),
        "without_leader": sum(p.leader < 0 for p in partitions),
        "brokers": rows,
    }


def rolling_check(client: Client, only: int | None) -> dict[str, Any]:
    """Whether each broker (or the given one) may be restarted now without a failing write or read. Raises UserError for
    a broker that does not exist."""
    partitions = partitions_of(client, with_min_isr=True)
    brokers = broker_rows(describe_cluster(client), partitions)
    known = [broker.broker_id for broker in brokers]
    if only is not None and only not in known:
        raise UserError(f"there is no broker {only}; there are {', '.join(map(str, known))}")
    problems = cluster_problems(brokers, partitions)
    rows = [
        restart_row(broker.broker_id, partitions)
        for broker in brokers
        if broker.state == "active" and only in (None, broker.broker_id)
    ]
    is_safe = not problems and bool(rows) and all(row["safe"] for row in rows)
    return {"safe": is_safe, "problems": problems, "brokers": rows}


def cluster_problems(brokers: Sequence[BrokerRow], partitions: Sequence[PartitionRow]) -> list[str]:
    """Problems to mend before any broker is restarted."""
    found = [f"broker {b.broker_id} is {b.state}" for b in brokers if b.state != "active"]
    for what, concerned in (
        ("without a leader", [p for p in partitions if p.leader < 0]),
        ("under-replicated", [p for p in partitions if p.leader >= 0 and p.is_under_replicated]),
    ):
        if concerned:
            found.append(f"{len(concerned)} partitions are {what}: {examples(concerned)}")
    return found


def restart_row(broker_id: int, partitions: Sequence[PartitionRow]) -> dict[str, Any]:
    """What would be missing while this broker is away."""
    here = [p for p in partitions if broker_id in p.isr]
    alone = [p for p in here if len(p.isr) == 1]
    below = [p for p in here if len(p.isr) > 1 and len(p.isr) - 1 < p.required]
    return {
        "id": broker_id,
        "safe": not alone and not below,
        "without_leader": len(alone),
        "below_min_isr": len(below),
        "examples": [p.name for p in (*alone, *below)[:MAX_EXAMPLES]],
    }


def examples(partitions: Sequence[PartitionRow]) -> str:
    shown = ", ".join(p.name for p in partitions[:MAX_EXAMPLES])
    return shown if len(partitions) <= MAX_EXAMPLES else f"{shown}, …"


# -- requests to the cluster


def describe_cluster(client: Client) -> DescribeClusterResponse:
    answer = client.request(DescribeClusterRequest(include_fenced_brokers=True), DescribeClusterResponse)
    check(answer.error_code, "the cluster", answer.error_message)
    return answer


def partitions_of(client: Client, *, with_min_isr: bool = False) -> list[PartitionRow]:
    """All partitions; ``min.insync.replicas`` is read only if ``with_min_isr``."""
    topics = existing(client, None)
    least: dict[str, int] = {}
    if with_min_isr:
        names = [topic.name or "" for topic in topics]
        for first in range(0, len(names), TOPICS_PER_REQUEST):
            asked = [(TOPIC, name) for name in names[first : first + TOPICS_PER_REQUEST]]
            found = one_config(client, asked, MIN_INSYNC_REPLICAS)
            least |= {name: int(value or 1) for name, value in found.items()}
    return [
        PartitionRow(
            f"{topic.name}-{row.partition_index}",
            row.leader_id,
            tuple(row.replica_nodes),
            tuple(row.isr_nodes),
            least.get(topic.name or "", 1),
        )
        for topic in topics
        for row in topic.partitions
    ]


def broker_rows(cluster: DescribeClusterResponse, partitions: Sequence[PartitionRow]) -> list[BrokerRow]:
    """The registered brokers, and those that hold replicas without being registered."""
    rows = {
        b.broker_id: BrokerRow(b.broker_id, b.host, b.port, b.rack, "fenced" if b.is_fenced else "active")
        for b in cluster.brokers
    }
    for replica in {replica for p in partitions for replica in p.replicas} - rows.keys():
        rows[replica] = BrokerRow(replica, None, None, None, "gone")
    return [rows[broker_id] for broker_id in sorted(rows)]


def metadata_store(client: Client, brokers: Sequence[BrokerRow]) -> str | None:
    """The metadata store as a broker's config names it; None when its config has none, and for another Kafka."""
    active = next((b.broker_id for b in brokers if b.state == "active"), None)
    if active is None:
        return None
    return one_config(client.node(active), [(BROKER, str(active))], METADATA_STORE).get(str(active))


def one_config(
    asked: Client | Connection, resources: Sequence[tuple[int, str]], key: str
) -> dict[str, str | None]:
    """The value of config ``key`` of each resource that has it, by resource name. Raises UserError."""
    wanted = [
        DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=[key])
        for kind, name in resources
    ]
    answer = asked.request(DescribeConfigsRequest(resources=wanted), DescribeConfigsResponse)
    for result in answer.results:
        check(result.error_code, result.resource_name, result.error_message)
    return {
        result.resource_name: config.value
        for result in answer.results
        for config in result.configs
        if config.name == key
    }
