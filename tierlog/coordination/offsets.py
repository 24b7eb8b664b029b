"""Committed offsets: the hard state of a shard beside group metadata, and the decisions that only concern
offsets.

Rules: an unknown offset is -1, never 0. While an open transaction has an offset for a partition, a fetch that
asks for stable offsets is answered UNSTABLE_OFFSET_COMMIT for it (KIP-447). Expiry follows KIP-211. An empty
group keeps its offsets for the retention time after it became empty. A group that never has members (a simple
consumer's) keeps each offset for the retention time after its commit. A live consumer group loses the offsets
of topics that it is no longer subscribed to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from itertools import repeat

from tierlog.coordination.classic_group import (
    COMPLETING,
    CONSUMER_PROTOCOL_TYPE,
    EMPTY,
    STABLE,
    ClassicGroup,
)
from tierlog.coordination.records import CommittedOffset, OffsetCommitted
from tierlog.errors import ErrorCode
from tierlog.types import UNKNOWN_OFFSET
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.offset_commit import OffsetCommitRequest
from tierlog.wire.messages.offset_fetch import (
    OffsetFetchRequestGroup,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)

GROUP_ID_NOT_FOUND_SINCE = 9  # OffsetCommit version, KIP-848

FEW = 16  # up to so many rows are made at once

Partitions = dict[int, CommittedOffset]
Topics = dict[str, Partitions]


class CommittedOffsets:
    """group id -> topic -> partition -> offset. Written by ``replay`` alone.

    Bound: groups times partitions of existing topics (the broker refuses commits for others), cut by expiry.
    """

    __slots__ = ("groups", "pending_transactional")

    def __init__(self) -> None:
        self.groups: dict[str, Topics] = {}
        # (group id, topic, partition) -> number of open transactions with an offset for it. Always empty so far,
        # since transactional commits are not served, but fetches already respect it.
        self.pending_transactional: dict[tuple[str, str, int], int] = {}

    def replay(self, event: OffsetCommitted) -> None:
        group_id, topic, partition, committed = event
        if committed is not None:
            topics = self.groups.get(group_id)
            if topics is None:
                topics = self.groups[group_id] = {}
            partitions = topics.get(topic)
            if partitions is None:
                partitions = topics[topic] = {}
            partitions[partition] = committed
            return
        topics = self.groups.get(group_id)
        if topics is None or topic not in topics:
            return
        topics[topic].pop(partition, None)
        if not topics[topic]:
            del topics[topic]
        if not topics:
            del self.groups[group_id]

    def of(self, group_id: str, topic: str, partition: int) -> CommittedOffset | None:
        return self.groups.get(group_id, {}).get(topic, {}).get(partition)

    def removals_of_topics(self, names: frozenset[str]) -> Iterator[OffsetCommitted]:
        """The events that remove the offsets of these topics in all groups."""
        for group_id, topics in self.groups.items():
            for topic in topics.keys() & names:
                for partition in topics[topic]:
                    yield OffsetCommitted(group_id, topic, partition, None)

    def removals(self, group_id: str) -> Iterator[OffsetCommitted]:
        """The events that remove all offsets of the group."""
        for topic, partitions in self.groups.get(group_id, {}).items():
            for partition in partitions:
                yield OffsetCommitted(group_id, topic, partition, None)

    def fetch(self, group: OffsetFetchRequestGroup, require_stable: bool) -> OffsetFetchResponseGroup:
        """The answer for one group; ``topics`` None asks for all. Names must be filled in, ids are echoed."""
        stored = self.groups.get(group.group_id, {})
        rows: list[OffsetFetchResponseTopics] = []
        if group.topics is None:
            for name, partitions in stored.items():
                rows.append(self._fetch_topic(group.group_id, name, partitions, partitions, require_stable))
        else:
            for topic in group.topics:
                known = stored.get(topic.name, {})
                row = self._fetch_topic(
                    group.group_id, topic.name, known, topic.partition_indexes, require_stable
                )
                row.topic_id = topic.topic_id
                rows.append(row)
        return OffsetFetchResponseGroup(group_id=group.group_id, topics=rows)

    def _fetch_topic(
        self, group_id: str, name: str, known: Partitions, wanted: Iterable[int], require_stable: bool
    ) -> OffsetFetchResponseTopics:
        # Takes the offsets as they are now; the rows are made later, when they are written to the wire.
        indexes = list(wanted)
        found = list(map(known.get, indexes))
        pending = self.pending_transactional if require_stable else {}
        unstable = {n for n in indexes if (group_id, name, n) in pending} if pending else frozenset()
        if len(indexes) < FEW:
            return OffsetFetchResponseTopics(
                name=name, partitions=list(map(_row, indexes, found, repeat(unstable)))
            )
        return OffsetFetchResponseTopics(
            name=name,
            partitions=lazily(len(indexes), lambda: map(_row, indexes, found, repeat(unstable))),
        )


def _row(
    partition: int, committed: CommittedOffset | None, unstable: Set[int]
) -> OffsetFetchResponsePartitions:
    if partition in unstable:
        return unknown_offset(partition, ErrorCode.UNSTABLE_OFFSET_COMMIT)
    if committed is None:
        return unknown_offset(partition)
    return OffsetFetchResponsePartitions(
        partition_index=partition,
        committed_offset=committed.offset,
        committed_leader_epoch=committed.leader_epoch,
        metadata=committed.metadata,
    )


def unknown_offset(partition: int, error: ErrorCode = ErrorCode.NONE) -> OffsetFetchResponsePartitions:
    """The row of a partition without an offset, or with one that may not be told."""
    return OffsetFetchResponsePartitions(
        partition_index=partition, committed_offset=UNKNOWN_OFFSET, metadata="", error_code=error
    )


def commit_error(
    group: ClassicGroup | None, has_offsets: bool, request: OffsetCommitRequest, api_version: int
) -> ErrorCode:
    """The error of a commit that is not allowed. Members of this generation may commit, and anyone may while
    the group has no members. ``group`` None: this coordinator has never known a member of it."""
    generation_id = request.generation_id_or_member_epoch
    if generation_id < 0 and (group is None or group.state is EMPTY):
        return ErrorCode.NONE
    if group is None:
        if has_offsets:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if api_version < GROUP_ID_NOT_FOUND_SINCE:
            return ErrorCode.ILLEGAL_GENERATION
        return ErrorCode.GROUP_ID_NOT_FOUND
    if generation_id < 0 and not request.member_id and request.group_instance_id is None:
        # Only members may commit once there are some.
        return ErrorCode.UNKNOWN_MEMBER_ID
    error = group.validate_member(request.member_id, request.group_instance_id)
    if not error and generation_id != group.generation_id:
        error = ErrorCode.ILLEGAL_GENERATION
    if not error and group.state is COMPLETING:
        # The member knows the generation but not yet its assignment: it has to sync first.
        error = ErrorCode.REBALANCE_IN_PROGRESS
    return error


def expiry_base_ms(group: ClassicGroup | None, committed: CommittedOffset) -> int | None:
    """The time from which the offset's retention counts; None while the group is in use, so that it does not expire."""
    if group is None or group.protocol_type is None:
        return committed.commit_timestamp_ms
    if group.state is EMPTY:
        return committed.commit_timestamp_ms if group.state_timestamp_ms == -1 else group.state_timestamp_ms
    if group.protocol_type == CONSUMER_PROTOCOL_TYPE and group.state is STABLE:
        return committed.commit_timestamp_ms
    return None


def expired(
    group_id: str, topics: Topics, group: ClassicGroup | None, retention_ms: int, now_ms: int
) -> list[OffsetCommitted]:
    """The events that remove the expired offsets of one group."""
    gone: list[OffsetCommitted] = []
    for topic, partitions in topics.items():
        if group is not None and group.is_subscribed(topic):
            continue
        for partition, committed in partitions.items():
            base_ms = expiry_base_ms(group, committed)
            if base_ms is None:
                continue
            if committed.expire_timestamp_ms != -1:
                due_ms = committed.expire_timestamp_ms
            else:
                due_ms = base_ms + retention_ms
            if due_ms <= now_ms:
                gone.append(OffsetCommitted(group_id, topic, partition, None))
    return gone
