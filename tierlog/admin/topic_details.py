"""One topic in detail: its configs and partitions, read and altered, as plain values. Any Kafka broker will do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tierlog.admin.client import Client
from tierlog.admin.errors import check
from tierlog.admin.topics import existing, topic_id_text
from tierlog.config.places import OBJECT_STORE
from tierlog.errors import UserError
from tierlog.wire.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from tierlog.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
)
from tierlog.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from tierlog.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from tierlog.wire.messages.metadata import MetadataResponseTopic

TOPIC = 2  # resource types of DescribeConfigs
SET, DELETE = 0, 1  # operations of IncrementalAlterConfigs
DYNAMIC_TOPIC_CONFIG = 1
EARLIEST, LATEST = -2, -1
SOURCES = {1: "topic", 2: "broker", 3: "all brokers", 4: "server.properties", 5: "default"}


def describe_topics(
    client: Client, names: Sequence[str] | None, *, exclude_internal: bool = False, all_configs: bool = False
) -> list[dict[str, Any]]:
    """One value per topic: its state, its configs, its partitions. Configs are the topic's own, or all."""
    topics = [topic for topic in existing(client, names) if not (exclude_internal and topic.is_internal)]
    configs = topic_configs(client, [topic.name or "" for topic in topics])
    starts, ends = (offsets(client, topics, timestamp) for timestamp in (EARLIEST, LATEST))
    described = []
    for topic in topics:
        name = topic.name or ""
        rows = [
            {
                "partition": row.partition_index,
                "leader": row.leader_id if row.leader_id >= 0 else None,
                "leader_epoch": row.leader_epoch,
                "replicas": list(row.replica_nodes),
                "isr": list(row.isr_nodes),
                "offline": list(row.offline_replicas),
                "start_offset": starts.get((name, row.partition_index)),
                "end_offset": ends.get((name, row.partition_index)),
            }
            for row in sorted(topic.partitions, key=lambda row: row.partition_index)
        ]
        described.append(
            {
                "topic": name,
                "topic_id": topic_id_text(topic.topic_id),
                "internal": topic.is_internal,
                "replication_factor": max((len(row.replica_nodes) for row in topic.partitions), default=0),
                "configs": {
                    config.name: {"value": config.value, "source": SOURCES.get(config.config_source, "other")}
                    for config in configs[name]
                    if all_configs or config.config_source == DYNAMIC_TOPIC_CONFIG
                },
                "partitions": rows,
            }
        )
    return described


def topic_configs(client: Client, names: Sequence[str]) -> dict[str, list[DescribeConfigsResourceResult]]:
    """All configs of each topic, by name. Raises UserError."""
    if not names:
        return {}
    answer = client.request(
        DescribeConfigsRequest(
            resources=[
                DescribeConfigsResource(resource_type=TOPIC, resource_name=name, configuration_keys=None)
                for name in names
            ]
        ),
        DescribeConfigsResponse,
    )
    for result in answer.results:
        check(result.error_code, result.resource_name, result.error_message)
    return {
        result.resource_name: sorted(result.configs, key=lambda config: config.name)
        for result in answer.results
    }


def own_store(client: Client, topic: str) -> str:
    """URL of the topic's own object store. Raises UserError where it has none."""
    existing(client, [topic])
    values = {config.name: config.value for config in topic_configs(client, [topic])[topic]}
    url = values.get(OBJECT_STORE)
    if not url:
        raise UserError(
            f"topic {topic} has no object store of its own, it uses the brokers': name that with --config server.properties"
        )
    return url


def offsets(
    client: Client, topics: Iterable[MetadataResponseTopic], timestamp: int
) -> dict[tuple[str, int], int]:
    """Offsets of each partition whose leader answers; ``timestamp`` is EARLIEST or LATEST."""
    asked: dict[int, dict[str, list[ListOffsetsPartition]]] = {}
    for topic in topics:
        for row in topic.partitions:
            if row.leader_id >= 0:
                of_leader = asked.setdefault(row.leader_id, {})
                of_leader.setdefault(topic.name or "", []).append(
                    ListOffsetsPartition(partition_index=row.partition_index, timestamp=timestamp)
                )
    found = {}
    for leader, of_leader in asked.items():
        request = ListOffsetsRequest(
            replica_id=-1,
            topics=[ListOffsetsTopic(name=name, partitions=rows) for name, rows in of_leader.items()],
            timeout_ms=client.timeout_ms,
        )
        for answered in client.node(leader).request(request, ListOffsetsResponse).topics:
            for result in answered.partitions:
                if not result.error_code:
                    found[answered.name, result.partition_index] = result.offset
    return found


def alter_topic(
    client: Client,
    name: str,
    configs: Mapping[str, str],
    removed: Sequence[str],
    partitions: int | None,
    *,
    dry_run: bool,
) -> dict[str, Any]:
    """The changes, before and after. Nothing is changed unless every part of the request is valid. Raises UserError."""
    (topic,) = existing(client, [name])
    before = {config.name: config for config in topic_configs(client, [name])[name]}
    for validate_only in (True,) if dry_run else (True, False):
        if configs or removed:
            _alter_configs(client, name, configs, removed, validate_only=validate_only)
        if partitions is not None:
            _grow(client, name, partitions, validate_only=validate_only)
    after = before
    if not dry_run:
        after = {config.name: config for config in topic_configs(client, [name])[name]}
    changes = [
        {
            "config": key,
            "before": before[key].value if key in before else None,
            "after": configs.get(key, "(default)")
            if dry_run
            else (after[key].value if key in after else None),
        }
        for key in [*configs, *removed]
    ]
    if partitions is not None:
        changes.append(
            {"config": "partitions", "before": str(len(topic.partitions)), "after": str(partitions)}
        )
    return {"topic": name, "changed": not dry_run, "changes": changes}


def _alter_configs(
    client: Client, name: str, configs: Mapping[str, str], removed: Sequence[str], *, validate_only: bool
) -> None:
    changes = [AlterableConfig(name=key, config_operation=SET, value=value) for key, value in configs.items()]
    changes += [AlterableConfig(name=key, config_operation=DELETE, value=None) for key in removed]
    answer = client.request(
        IncrementalAlterConfigsRequest(
            resources=[AlterConfigsResource(resource_type=TOPIC, resource_name=name, configs=changes)],
            validate_only=validate_only,
        ),
        IncrementalAlterConfigsResponse,
    )
    for result in answer.responses:
        check(result.error_code, name, result.error_message)


def _grow(client: Client, name: str, partitions: int, *, validate_only: bool) -> None:
    answer = client.request(
        CreatePartitionsRequest(
            topics=[CreatePartitionsTopic(name=name, count=partitions, assignments=None)],
            timeout_ms=client.timeout_ms,
            validate_only=validate_only,
        ),
        CreatePartitionsResponse,
    )
    for result in answer.results:
        check(result.error_code, name, result.error_message)
