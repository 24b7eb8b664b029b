"""``GroupShard``: all groups of one ``__consumer_offsets`` partition.

Hard state (``metadata``, ``offsets``) is the replay of the partition's records; only ``replay`` changes it, and
a ``decide_*`` returns the events that do. Soft state (``groups``: members' sessions, tickets, timers) is
changed by decisions and lost with the shard.

The driver's side of the contract: it replays a decision's events before the next call; if they cannot be
appended, it drops the shard and builds it anew. ``finish_load`` comes between the last replayed
record and the first decision.

Invariants (``check``): a Stable group's generation, members and assignments equal its metadata (I8, I9); each
group with metadata has a soft group; every ticket is held by exactly one member or has been answered.
"""

from __future__ import annotations

from collections.abc import Iterator

from tierlog.coordination import describe, membership
from tierlog.coordination.classic_group import (
    EMPTY,
    MEMBER_BYTES,
    NEVER_MS,
    PREPARING,
    STABLE,
    ClassicGroup,
    Held,
)
from tierlog.coordination.config import GroupConfig
from tierlog.coordination.decision import Caller, Decision, Ticket
from tierlog.coordination.offsets import CommittedOffsets, commit_error, expired
from tierlog.coordination.rebalance import Rebalancer
from tierlog.coordination.records import CommittedOffset, Event, GroupStored, OffsetCommitted
from tierlog.errors import ErrorCode
from tierlog.wire.messages.delete_groups import DeletableGroupResult
from tierlog.wire.messages.describe_groups import DescribedGroup
from tierlog.wire.messages.group_records import GroupMetadataValue
from tierlog.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from tierlog.wire.messages.join_group import JoinGroupRequest
from tierlog.wire.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    MemberResponse,
)
from tierlog.wire.messages.list_groups import ListedGroup
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from tierlog.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from tierlog.wire.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchResponseGroup
from tierlog.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from tierlog.wire.schema import ZERO_UUID

LEAVE_BATCH_SINCE = 3  # LeaveGroup version, KIP-345
_new_tuple = tuple.__new__  # half the cost of a named tuple's own constructor
SWEEP_GROUP_COUNT = 500  # groups whose offsets one tick looks through for expiry


class GroupShard:
    """See the module head. ``now_ms`` never goes back between calls."""

    __slots__ = (
        "_sweep",
        "_sweep_at_ms",
        "config",
        "groups",
        "held",
        "metadata",
        "offsets",
        "rules",
        "unusable_count",
    )

    def __init__(self, config: GroupConfig) -> None:
        self.config = config
        self.metadata: dict[str, GroupMetadataValue] = {}  # hard: the last GroupStored of each group
        self.offsets = CommittedOffsets()  # hard
        self.groups: dict[str, ClassicGroup] = {}  # soft
        self.rules = Rebalancer(config, self.groups)
        self.held = Held()
        self.unusable_count = 0  # stored groups that could not be built
        self._sweep: Iterator[str] | None = None
        self._sweep_at_ms = NEVER_MS

    # -- hard state
    # -------------------------------------------------------------------------------------------

    def replay(self, event: Event) -> None:
        """Applies one recorded event. Never refuses."""
        if isinstance(event, OffsetCommitted):
            self.offsets.replay(event)
        elif event.metadata is None:
            self.metadata.pop(event.group_id, None)
        else:
            self.metadata[event.group_id] = event.metadata

    def finish_load(self, now_ms: int) -> Decision:
        """Call this when every record has been replayed: builds the groups and starts the sessions of their
        members."""
        assert not self.groups
        out = Decision()
        self._sweep_at_ms = now_ms + self.config.offsets_retention_check_interval_ms
        for group_id, stored in list(self.metadata.items()):
            group = self._group_from(group_id, stored)
            if group is None:
                continue
            for member in group.members.values():
                self.rules.keep_session(group, member, now_ms)
            if len(group.members) > self.config.group_max_size:
                self.rules.prepare(group, now_ms, out)
        return out

    def _group_from(self, group_id: str, stored: GroupMetadataValue) -> ClassicGroup | None:
        """The group of a stored record. None for a record that no coordinator writes: its group begins anew."""
        held = Held()
        try:
            group = ClassicGroup.from_metadata(group_id, stored, held)
            group.check()
            assert stored.generation >= 0
        except (AssertionError, ValueError):
            self.unusable_count += 1
            del self.metadata[group_id]
            return None
        self.held.bytes += held.bytes
        group.held = self.held
        self.groups[group_id] = group
        return group

    def exists(self, group_id: str) -> bool:
        return group_id in self.groups or group_id in self.offsets.groups

    def group_ids(self) -> list[str]:
        """Every group, in a stable order."""
        return [*self.groups, *(group_id for group_id in self.offsets.groups if group_id not in self.groups)]

    def _is_full(self) -> bool:
        return len(self.groups) + len(self.offsets.groups) >= self.config.groups_max

    # -- membership
    # -------------------------------------------------------------------------------------------

    def decide_join(self, ticket: Ticket, request: JoinGroupRequest, caller: Caller, now_ms: int) -> Decision:
        """JoinGroup. Answered at once or when the rebalance ends."""
        out = Decision()
        error = self._join_refusal(request)
        group = self.groups.get(request.group_id)
        if not error and group is None and request.member_id:
            error = ErrorCode.UNKNOWN_MEMBER_ID
        if error:
            out.reply(ticket, membership.refuse_join(error, request.member_id, caller.api_version))
            return out
        is_new = request.group_id not in self.metadata
        if error := self._bytes_refusal(request, group):
            out.reply(ticket, membership.refuse_join(error, request.member_id, caller.api_version))
            return out
        if group is None:
            group = self.groups[request.group_id] = ClassicGroup(request.group_id, held=self.held)
        membership.Join(self.rules, group, ticket, request, caller, now_ms, out).decide()
        if is_new and not out.events:
            # The record lets a coordinator that takes over know the group.
            out.record(
                GroupStored(
                    group.group_id,
                    GroupMetadataValue(
                        generation=0,
                        protocol=None,
                        leader=None,
                        current_state_timestamp=now_ms,
                    ),
                )
            )
        return out

    def _bytes_refusal(self, request: JoinGroupRequest, group: ClassicGroup | None) -> ErrorCode:
        """The error if there is no room for what the member sends; there always is if it sends no more than before."""
        member = group.member_of(request.member_id, request.group_instance_id) if group is not None else None
        sent = [len(protocol.name) + len(protocol.metadata) for protocol in request.protocols]
        more_bytes = MEMBER_BYTES + sum(sent) - (member.held_bytes if member is not None else 0)
        if more_bytes <= 0:
            return ErrorCode.NONE
        if (group.held_bytes if group is not None else 0) + more_bytes > self.config.group_bytes_max:
            return ErrorCode.GROUP_MAX_SIZE_REACHED
        if self.held.bytes + more_bytes > self.config.shard_bytes_max:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        return ErrorCode.NONE

    def _join_refusal(self, request: JoinGroupRequest) -> ErrorCode:
        config = self.config
        if not request.group_id:
            return ErrorCode.INVALID_GROUP_ID
        timeout_ms = request.session_timeout_ms
        if not config.group_min_session_timeout_ms <= timeout_ms <= config.group_max_session_timeout_ms:
            return ErrorCode.INVALID_SESSION_TIMEOUT
        if not self.exists(request.group_id) and not request.member_id and self._is_full():
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        return ErrorCode.NONE

    def decide_sync(self, ticket: Ticket, request: SyncGroupRequest, now_ms: int) -> Decision:
        """SyncGroup. Members are answered when the leader's assignment is recorded."""
        out = Decision()
        group = self.groups.get(request.group_id)
        if not request.group_id:
            out.reply(ticket, SyncGroupResponse(error_code=ErrorCode.INVALID_GROUP_ID))
        elif group is None:
            out.reply(ticket, SyncGroupResponse(error_code=ErrorCode.UNKNOWN_MEMBER_ID))
        else:
            membership.decide_sync(self.rules, group, ticket, request, now_ms, out)
        return out

    def decide_heartbeat(self, ticket: Ticket, request: HeartbeatRequest, now_ms: int) -> Decision:
        out = Decision()
        group = self.groups.get(request.group_id)
        if not request.group_id:
            error = ErrorCode.INVALID_GROUP_ID
        elif group is None:
            error = ErrorCode.UNKNOWN_MEMBER_ID
        else:
            error = membership.heartbeat_error(self.rules, group, request, now_ms)
        out.reply(ticket, HeartbeatResponse(error_code=error))
        return out

    def decide_leave(
        self, ticket: Ticket, request: LeaveGroupRequest, caller: Caller, now_ms: int
    ) -> Decision:
        out = Decision()
        if not request.group_id:
            out.reply(ticket, LeaveGroupResponse(error_code=ErrorCode.INVALID_GROUP_ID))
            return out
        is_batch = caller.api_version >= LEAVE_BATCH_SINCE
        leaving = request.members if is_batch else [MemberIdentity(member_id=request.member_id)]
        group = self.groups.get(request.group_id)
        if group is None:
            rows = [
                MemberResponse(
                    member_id=identity.member_id,
                    group_instance_id=identity.group_instance_id,
                    error_code=ErrorCode.UNKNOWN_MEMBER_ID,
                )
                for identity in leaving
            ]
        else:
            rows = membership.decide_leave(self.rules, group, leaving, now_ms, out)
        if is_batch:
            out.reply(ticket, LeaveGroupResponse(members=rows))
        else:
            out.reply(ticket, LeaveGroupResponse(error_code=rows[0].error_code))
        return out

    # -- offsets
    # ----------------------------------------------------------------------------------------------

    def decide_offset_commit(
        self, ticket: Ticket, request: OffsetCommitRequest, caller: Caller, now_ms: int
    ) -> Decision:
        """OffsetCommit for topics that exist; names and ids of the request are echoed."""
        out = Decision()
        group_id = request.group_id
        group = self.groups.get(group_id)
        error = commit_error(group, group_id in self.offsets.groups, request, caller.api_version)
        if not error and group is None and not self._may_create(group_id):
            error = ErrorCode.COORDINATOR_NOT_AVAILABLE
        if not error and group is not None and request.member_id:
            # A commit keeps the member's session alive; in CompletingRebalance only heartbeats do.
            member = group.members.get(request.member_id)
            if member is not None and (group.state is STABLE or group.state is PREPARING):
                self.rules.keep_session(group, member, now_ms)
        expire_ms = -1 if request.retention_time_ms == -1 else now_ms + request.retention_time_ms
        metadata_max = self.config.offset_metadata_max_bytes
        rows: list[OffsetCommitResponseTopic] = []
        for topic in request.topics:
            name = topic.name
            partitions: list[OffsetCommitResponsePartition] = []
            for row in topic.partitions:
                code = error
                metadata = row.committed_metadata or ""
                if not error and len(metadata) > metadata_max:
                    code = ErrorCode.OFFSET_METADATA_TOO_LARGE
                elif not error:
                    offset, epoch = row.committed_offset, row.committed_leader_epoch
                    fields = (offset, epoch, metadata, now_ms, expire_ms, ZERO_UUID)
                    committed = _new_tuple(CommittedOffset, fields)
                    out.events.append(
                        _new_tuple(OffsetCommitted, (group_id, name, row.partition_index, committed))
                    )
                partitions.append(
                    OffsetCommitResponsePartition(partition_index=row.partition_index, error_code=code)
                )
            rows.append(OffsetCommitResponseTopic(name=name, topic_id=topic.topic_id, partitions=partitions))
        out.reply(ticket, OffsetCommitResponse(topics=rows))
        return out

    def _may_create(self, group_id: str) -> bool:
        """Whether a commit may create the group (a simple consumer's group)."""
        return group_id in self.offsets.groups or not self._is_full()

    def fetch_offsets(self, group: OffsetFetchRequestGroup, require_stable: bool) -> OffsetFetchResponseGroup:
        return self.offsets.fetch(group, require_stable)

    def decide_offset_delete(self, ticket: Ticket, request: OffsetDeleteRequest) -> Decision:
        """OffsetDelete (KIP-496) for topics that exist. A live consumer group keeps the offsets of topics that
        it is subscribed to."""
        out = Decision()
        group_id = request.group_id
        group = self.groups.get(group_id)
        error = ErrorCode.NONE
        if not self.exists(group_id):
            error = ErrorCode.GROUP_ID_NOT_FOUND
        elif group is not None and group.state is not EMPTY and group.protocol_type != "consumer":
            error = ErrorCode.NON_EMPTY_GROUP
        if error:
            out.reply(ticket, OffsetDeleteResponse(error_code=error))
            return out
        rows = []
        before = len(out.events)
        for topic in request.topics:
            is_read = group is not None and group.is_subscribed(topic.name)
            code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if is_read else ErrorCode.NONE
            partitions = []
            for row in topic.partitions:
                if not is_read and self.offsets.of(group_id, topic.name, row.partition_index) is not None:
                    out.record(OffsetCommitted(group_id, topic.name, row.partition_index, None))
                partitions.append(
                    OffsetDeleteResponsePartition(partition_index=row.partition_index, error_code=code)
                )
            rows.append(OffsetDeleteResponseTopic(name=topic.name, partitions=partitions))
        if len(set(out.events[before:])) == sum(map(len, self.offsets.groups.get(group_id, {}).values())):
            self._keep_bare(group_id)
        out.reply(ticket, OffsetDeleteResponse(topics=rows))
        return out

    def decide_topic_deletion(self, names: frozenset[str]) -> Decision:
        """Removes all offsets of deleted topics, so that a new topic of the same name does not inherit them."""
        out = Decision()
        out.events.extend(self.offsets.removals_of_topics(names))
        for group_id, topics in self.offsets.groups.items():
            if topics.keys() <= names:
                self._keep_bare(group_id)
        return out

    def _keep_bare(self, group_id: str) -> None:
        """Keeps a group that loses its last offset as an empty group until it is deleted or the next sweep, as in Kafka."""
        if group_id not in self.groups:
            self.groups[group_id] = ClassicGroup(group_id, held=self.held)

    # -- administration
    # ---------------------------------------------------------------------------------------

    def list_groups(self, states: list[str], types: list[str]) -> list[ListedGroup]:
        return describe.list_groups(self.group_ids(), self.groups, states, types)

    def describe_group(self, group_id: str, api_version: int) -> DescribedGroup:
        group = self.groups.get(group_id)
        return describe.describe_group(group_id, group, self.exists(group_id), api_version)

    def decide_delete_group(self, ticket: Ticket, group_id: str, now_ms: int) -> Decision:
        """Removes an empty group and its offsets; answered with a ``DeletableGroupResult``."""
        out = Decision()
        group = self.groups.get(group_id)
        error, message = ErrorCode.NONE, None
        if not self.exists(group_id):
            error, message = ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found."
        elif group is not None and group.state is not EMPTY:
            error, message = ErrorCode.NON_EMPTY_GROUP, "The group is not empty."
        else:
            out.events.extend(self.offsets.removals(group_id))
            self._remove_group(group_id, now_ms, out)
        out.reply(ticket, DeletableGroupResult(group_id=group_id, error_code=error, error_message=message))
        return out

    def _remove_group(self, group_id: str, now_ms: int, out: Decision) -> None:
        if group_id in self.metadata:
            out.record(GroupStored(group_id, None))
        group = self.groups.pop(group_id, None)
        if group is not None:
            for member_id in list(group.pending_members):
                group.forget_pending(member_id)
            self.rules.delete(group, now_ms)

    # -- time
    # -------------------------------------------------------------------------------------------------

    @property
    def next_deadline_ms(self) -> int:
        """The time of the next ``tick``; an earlier one does nothing."""
        return min(self.rules.timers.next_ms, self._sweep_at_ms)

    def tick(self, now_ms: int) -> Decision:
        """Handles the sessions, rebalance waits and offset expiry that are due."""
        out = Decision()
        while (due := self.rules.timers.pop_due(now_ms)) is not None:
            group = self.groups.get(due[0])
            if group is not None:
                self.rules.on_timer(group, due[1], now_ms, out)
        if self._sweep_at_ms <= now_ms:
            self._expire_offsets(now_ms, out)
        return out

    def _expire_offsets(self, now_ms: int, out: Decision) -> None:
        """Expires offsets of the next groups; the rest follows in the next ticks, so that no tick takes long."""
        if self._sweep is None:
            self._sweep = iter(self.group_ids())
        for _ in range(SWEEP_GROUP_COUNT):
            group_id = next(self._sweep, None)
            if group_id is None:
                self._sweep = None
                self._sweep_at_ms = now_ms + self.config.offsets_retention_check_interval_ms
                return
            self._expire_group(group_id, now_ms, out)
        self._sweep_at_ms = now_ms + 1

    def _expire_group(self, group_id: str, now_ms: int, out: Decision) -> None:
        group = self.groups.get(group_id)
        topics = self.offsets.groups.get(group_id, {})
        gone = expired(group_id, topics, group, self.config.offsets_retention_ms, now_ms)
        out.events.extend(gone)
        is_bare = len(gone) == sum(len(partitions) for partitions in topics.values())
        if is_bare and (group is None or (group.state is EMPTY and not group.pending_members)):
            self._remove_group(group_id, now_ms, out)

    def check(self) -> None:
        """The invariants of the module head."""
        assert self.metadata.keys() <= self.groups.keys()
        assert self.held.bytes == sum(group.held_bytes for group in self.groups.values())
        for group_id, group in self.groups.items():
            group.check()
            if group.state is not STABLE:
                continue
            stored = self.metadata[group_id]
            assert stored.generation == group.generation_id
            assert stored.protocol == group.protocol_name
            assert {row.member_id: row.assignment for row in stored.members} == {
                member.member_id: member.assignment for member in group.members.values()
            }
