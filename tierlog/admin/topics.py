"""Topics of a cluster, listed, created and deleted, as plain values. Works against any Kafka broker."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tierlog.admin.client import Client
from tierlog.admin.errors import check, describe_error, no_such_topic
from tierlog.errors import ErrorCode, UserError
from tierlog.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from tierlog.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from tierlog.wire.messages.metadata import MetadataResponseTopic


def topic_id_text(topic_id: bytes) -> str:
    """The topic id as Kafka writes it: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(topic_id).decode().rstrip("=")


def existing(client: Client, names: Sequence[str] | None) -> list[MetadataResponseTopic]:
    """These topics, or all, by name. Raises UserError for one that does not exist."""
    found = {topic.name or "": topic for topic in client.metadata(names).topics}
    for name, topic in found.items():
        if topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            raise no_such_topic(name, (known.name or "" for known in client.metadata().topics))
        if topic.error_code != ErrorCode.LEADER_NOT_AVAILABLE:
            check(topic.error_code, name)
    return [found[name] for name in sorted(found)]


def list_topics(
    client: Client, *, exclude_internal: bool = False, matching: str = ""
) -> list[dict[str, Any]]:
    """One row per topic. ``matching`` is a regular expression that must match somewhere in the name."""
    try:
        pattern = re.compile(matching)
    except re.error as error:
        raise UserError(f"{matching} is not a regular expression: {error}") from None
    return [
        {
            "topic": topic.name,
            "topic_id": topic_id_text(topic.topic_id),
            "partitions": len(topic.partitions),
            "replication_factor": max((len(row.replica_nodes) for row in topic.partitions), default=0),
            "under_replicated": sum(len(row.isr_nodes) < len(row.replica_nodes) for row in topic.partitions),
            "unavailable": sum(row.leader_id < 0 for row in topic.partitions),
            "internal": topic.is_internal,
        }
        for topic in existing(client, None)
        if not (exclude_internal and topic.is_internal) and pattern.search(topic.name or "")
    ]


def create_topics(
    client: Client,
    names: Sequence[str],
    partitions: int,
    replication_factor: int,
    configs: Mapping[str, str],
    *,
    if_not_exists: bool,
    dry_run: bool,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the topics that were created or already existed (``"created": false``), and the failures as lines."""
    answer = client.request(
        CreateTopicsRequest(
            topics=[
                CreatableTopic(
                    name=name,
                    num_partitions=partitions,
                    replication_factor=replication_factor,
                    configs=[CreatableTopicConfig(name=key, value=value) for key, value in configs.items()],
                )
                for name in names
            ],
            timeout_ms=client.timeout_ms,
            validate_only=dry_run,
        ),
        CreateTopicsResponse,
    )
    rows, failures = [], []
    for result in answer.topics:
        existed = result.error_code == ErrorCode.TOPIC_ALREADY_EXISTS
        if result.error_code and not (existed and if_not_exists):
            failures.append(f"{result.name}: {describe_error(result.error_code, result.error_message)}")
            continue
        row: dict[str, Any] = {"topic": result.name, "created": not existed and not dry_run}
        if not existed:
            row |= {
                "topic_id": topic_id_text(result.topic_id),
                "partitions": result.num_partitions,
                "replication_factor": result.replication_factor,
                "configs": dict(configs),
            }
        rows.append(row)
    return rows, failures


def delete_topics(
    client: Client, names: Sequence[str], *, if_exists: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the topics that were deleted or did not exist (``"deleted": false``), and the failures as lines."""
    answer = client.request(
        DeleteTopicsRequest(
            topics=[DeleteTopicState(name=name) for name in names],
            topic_names=list(names),
            timeout_ms=client.timeout_ms,
        ),
        DeleteTopicsResponse,
    )
    rows, failures = [], []
    for result in answer.responses:
        gone = result.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if result.error_code and not (gone and if_exists):
            failures.append(f"{result.name}: {describe_error(result.error_code, result.error_message)}")
        else:
            rows.append({"topic": result.name, "deleted": not gone})
    return rows, failures
