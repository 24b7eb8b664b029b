"""A consumer group's offsets, set to where a replay ended, so that the group goes on from there. Blocking.

As ``kafka-consumer-groups --reset-offsets`` has it: only of a group that nobody is a member of. It is looked at before the
replay begins; whoever joins meanwhile makes the commit fail, and the group's offsets are its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tierlog.admin.client import Client, Connection
from tierlog.admin.errors import check
from tierlog.errors import RETRIABLE, ErrorCode, UserError
from tierlog.types import TopicPartition
from tierlog.wire.messages.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)

ATTEMPTS = 20
PAUSE_S = 0.5
"""A group that was never there yet: its topic is made first."""


class GroupOffsets:
    """Every method raises UserError."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name

    def check(self) -> None:
        """That nobody is a member."""
        message = DescribeGroupsRequest(groups=[self._name])

        def ask(coordinator: Connection) -> int:
            (group,) = coordinator.request(message, DescribeGroupsResponse).groups
            if group.members:
                raise self._is_live()
            is_known = group.error_code != ErrorCode.GROUP_ID_NOT_FOUND
            return group.error_code if is_known else 0

        self._of_coordinator(ask)

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """The group's members will read on from there."""
        topics: dict[str, OffsetCommitRequestTopic] = {}
        ids = {
            row.name: row.topic_id for row in self._client.metadata({w.topic for w in next_offsets}).topics
        }
        for where, offset in next_offsets.items():
            topic = topics.setdefault(
                where.topic, OffsetCommitRequestTopic(name=where.topic, topic_id=ids[where.topic])
            )
            part = OffsetCommitRequestPartition(partition_index=where.partition, committed_offset=offset)
            topic.partitions.append(part)
        message = OffsetCommitRequest(group_id=self._name, topics=list(topics.values()))

        def ask(coordinator: Connection) -> int:
            rows = coordinator.request(message, OffsetCommitResponse).topics
            codes = {part.error_code for topic in rows for part in topic.partitions} - {0}
            if codes & {ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.REBALANCE_IN_PROGRESS}:
                raise self._is_live()
            return min(codes, default=0)

        self._of_coordinator(ask)

    def _of_coordinator(self, ask: Callable[[Connection], int]) -> None:
        """Until it answers without an error, wherever it moves meanwhile."""
        find = FindCoordinatorRequest(coordinator_keys=[self._name])
        for attempt in range(ATTEMPTS):
            (found,) = self._client.request(find, FindCoordinatorResponse).coordinators
            code = found.error_code or ask(self._client.node(found.node_id))
            if not code:
                return
            if code not in RETRIABLE or attempt == ATTEMPTS - 1:
                check(code, f"--commit-group {self._name}")
            time.sleep(PAUSE_S)

    def _is_live(self) -> UserError:
        return UserError(
            f"--commit-group {self._name}: the group has members, which commit offsets of their own; "
            "stop them first, or leave --commit-group out"
        )
