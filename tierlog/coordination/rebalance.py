"""The rules that move a classic group through a rebalance. All state is soft; what must last is recorded as
an event.

The first rebalance of an empty group waits ``group.initial.rebalance.delay.ms``, and again as long as new
members come, at most their rebalance timeout in all. A later one waits until every member has joined, at most
the largest rebalance timeout; members that have not joined by then are removed (static members stay until
their session ends). Then a new generation begins, the leader is told of all members, and every member has the
rebalance timeout to send SyncGroup. The leader's assignment is recorded; a group that loses its last member is
recorded as empty.

Deadlines are fields of group and member; ``Timers`` only knows when to look at them. A ``Rebalancer`` is one
shard's rules with its timers; it holds no group.
"""

from __future__ import annotations

import heapq

from tierlog.coordination.classic_group import (
    CAN_REBALANCE,
    COMPLETING,
    DEAD,
    EMPTY,
    NEVER_MS,
    PREPARING,
    STABLE,
    ClassicGroup,
    Member,
)
from tierlog.coordination.config import GroupConfig
from tierlog.coordination.decision import Decision
from tierlog.coordination.records import GroupStored
from tierlog.errors import ErrorCode
from tierlog.wire.messages.join_group import JoinGroupResponse
from tierlog.wire.messages.sync_group import SyncGroupResponse

NEW_MEMBER_JOIN_TIMEOUT_MS = 5 * 60_000
PENDING_MEMBERS_MAX = 10_000  # per group; the oldest is forgotten
TIMERS_SWEEP_MIN_COUNT = 1024
MEMBER_ROW_BYTES = 160  # approximate size of a member's ids, host and timeouts in the group's record
GROUP_TIMER = ""  # used instead of a member id in ``Timers``, for the group itself


class Timers:
    """Min-heap of (time, group id, member id or GROUP_TIMER): the times to look for due deadlines.

    A deadline that moves later costs nothing: its entry comes up too early and is set again. Only a deadline
    that moves earlier pushes an entry. Bound: twice the groups and members that exist (and a constant), since
    the heap drops dead entries when it doubles.
    """

    __slots__ = ("_groups", "_heap", "_sweep_at_count")

    def __init__(self, groups: dict[str, ClassicGroup]) -> None:
        self._groups = groups
        self._heap: list[tuple[int, str, str]] = []
        self._sweep_at_count = TIMERS_SWEEP_MIN_COUNT

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_ms(self) -> int:
        return self._heap[0][0] if self._heap else NEVER_MS

    def at(self, time_ms: int, group_id: str, member_id: str = GROUP_TIMER) -> None:
        heapq.heappush(self._heap, (time_ms, group_id, member_id))
        if len(self._heap) > self._sweep_at_count:
            self._sweep()

    def _sweep(self) -> None:
        earliest: dict[tuple[str, str], int] = {}
        for time_ms, group_id, member_id in sorted(self._heap, reverse=True):
            group = self._groups.get(group_id)
            known = group is not None and (
                member_id == GROUP_TIMER or member_id in group.members or member_id in group.pending_members
            )
            if known:
                earliest[group_id, member_id] = time_ms
        self._heap = [(time_ms, *who) for who, time_ms in earliest.items()]
        heapq.heapify(self._heap)
        self._sweep_at_count = max(TIMERS_SWEEP_MIN_COUNT, 2 * len(self._heap))

    def pop_due(self, now_ms: int) -> tuple[str, str] | None:
        if not self._heap or self._heap[0][0] > now_ms:
            return None
        _, group_id, member_id = heapq.heappop(self._heap)
        return group_id, member_id


class Rebalancer:
    """See the module head. Each method acts on one group at ``now_ms`` and adds events and replies to ``out``."""

    __slots__ = ("config", "timers")

    def __init__(self, config: GroupConfig, groups: dict[str, ClassicGroup]) -> None:
        self.config = config
        self.timers = Timers(groups)

    # -- timers
    # -----------------------------------------------------------------------------------------------

    def keep_session(self, group: ClassicGroup, member: Member, now_ms: int, timeout_ms: int = -1) -> None:
        """The member was heard of: its session ends ``timeout_ms`` (default its session timeout) from now."""
        deadline_ms = now_ms + (member.session_timeout_ms if timeout_ms < 0 else timeout_ms)
        member.session_deadline_ms = deadline_ms
        if deadline_ms < member.timer_at_ms:
            member.timer_at_ms = deadline_ms
            self.timers.at(deadline_ms, group.group_id, member.member_id)

    def await_pending(self, group: ClassicGroup, member_id: str, deadline_ms: int) -> None:
        """A member id was given out (KIP-394); it is forgotten unless it is used by ``deadline_ms``."""
        if len(group.pending_members) >= PENDING_MEMBERS_MAX:
            group.forget_pending(next(iter(group.pending_members)))
        group.add_pending(member_id, deadline_ms)
        self.timers.at(deadline_ms, group.group_id, member_id)

    def _set_group_timer(self, group: ClassicGroup) -> None:
        due_ms = min(group.join_deadline_ms, group.sync_deadline_ms)
        if due_ms < group.timer_at_ms:
            group.timer_at_ms = due_ms
            self.timers.at(due_ms, group.group_id)

    def on_timer(self, group: ClassicGroup, member_id: str, now_ms: int, out: Decision) -> None:
        """An entry of ``timers`` came up for the group (GROUP_TIMER) or one of its members."""
        if member_id == GROUP_TIMER:
            group.timer_at_ms = NEVER_MS
            if group.join_deadline_ms <= now_ms:
                self._join_wait_over(group, now_ms, out)
            if group.sync_deadline_ms <= now_ms:
                self._sync_wait_over(group, now_ms, out)
            self._set_group_timer(group)
        elif member_id in group.members:
            self._on_session_timer(group, group.members[member_id], now_ms, out)
        elif group.pending_members.get(member_id, NEVER_MS) <= now_ms:
            group.remove(member_id)
            self.complete_join_if_all_joined(group, now_ms, out)

    def _on_session_timer(self, group: ClassicGroup, member: Member, now_ms: int, out: Decision) -> None:
        member.timer_at_ms = NEVER_MS
        if member.session_deadline_ms > now_ms:
            member.timer_at_ms = member.session_deadline_ms
            self.timers.at(member.session_deadline_ms, group.group_id, member.member_id)
        elif member.is_new or (member.join_ticket is None and member.sync_ticket is None):
            self.expel(group, member.member_id, out)
            self.after_removal(group, now_ms, out)
        else:
            # A member that waits for our answer is alive; its session starts again with the answer.
            member.session_deadline_ms = NEVER_MS

    # -- removal
    # ----------------------------------------------------------------------------------------------

    def expel(self, group: ClassicGroup, member_id: str, out: Decision) -> None:
        """Removes a member; its waiting requests are answered with UNKNOWN_MEMBER_ID, so that a live client
        rejoins."""
        member = group.members.get(member_id)
        if member is not None:
            self._answer_waiting(group, member, ErrorCode.UNKNOWN_MEMBER_ID, out)
        group.remove(member_id)

    def replace_static(
        self, group: ClassicGroup, instance_id: str, new_member_id: str, out: Decision
    ) -> Member:
        """KIP-345: the instance came back under a new member id; the old one is fenced."""
        old = group.members[group.static_members[instance_id]]
        self._answer_waiting(group, old, ErrorCode.FENCED_INSTANCE_ID, out)
        return group.replace_static(instance_id, new_member_id)

    def _answer_waiting(self, group: ClassicGroup, member: Member, error: ErrorCode, out: Decision) -> None:
        ticket = group.take_join_ticket(member)
        if ticket is not None:
            unknown = error is ErrorCode.UNKNOWN_MEMBER_ID
            out.reply(
                ticket, JoinGroupResponse(error_code=error, member_id="" if unknown else member.member_id)
            )
        if member.sync_ticket is not None:
            out.reply(member.sync_ticket, SyncGroupResponse(error_code=error))
            member.sync_ticket = None

    def after_removal(self, group: ClassicGroup, now_ms: int, out: Decision) -> None:
        """A member is gone: starts a rebalance, so that the others share its partitions."""
        if group.state is STABLE or group.state is COMPLETING:
            self.prepare(group, now_ms, out)
        else:
            self.complete_join_if_all_joined(group, now_ms, out)

    # -- joining
    # ----------------------------------------------------------------------------------------------

    def rebalance_or_complete(self, group: ClassicGroup, now_ms: int, out: Decision) -> None:
        if group.state in CAN_REBALANCE:
            self.prepare(group, now_ms, out)
        else:
            self.complete_join_if_all_joined(group, now_ms, out)

    def prepare(self, group: ClassicGroup, now_ms: int, out: Decision) -> None:
        """Begins a rebalance: refuses waiting SyncGroups and waits for the members' JoinGroups."""
        if group.state is COMPLETING:
            self._answer_syncs(group, ErrorCode.REBALANCE_IN_PROGRESS, now_ms, out)
        group.sync_deadline_ms = NEVER_MS
        is_first = group.state is EMPTY
        group.transition(PREPARING, now_ms)
        if is_first:
            delay_ms = self.config.group_initial_rebalance_delay_ms
            group.new_member_added = False
            group.initial_delay_left_ms = max(group.rebalance_timeout_ms - delay_ms, 0)
            group.join_deadline_ms = now_ms + delay_ms
            self._set_group_timer(group)
            return
        group.initial_delay_left_ms = -1
        if group.all_joined:
            self.complete_join(group, now_ms, out)
        else:
            group.join_deadline_ms = now_ms + group.rebalance_timeout_ms
            self._set_group_timer(group)

    def complete_join_if_all_joined(self, group: ClassicGroup, now_ms: int, out: Decision) -> None:
        if group.state is PREPARING and group.all_joined and group.previous_state is not EMPTY:
            self.complete_join(group, now_ms, out)

    def _join_wait_over(self, group: ClassicGroup, now_ms: int, out: Decision) -> None:
        group.join_deadline_ms = NEVER_MS
        if group.state is not PREPARING:
            return
        left_ms = group.initial_delay_left_ms
        if left_ms > 0 and group.new_member_added:
            delay_ms = min(self.config.group_initial_rebalance_delay_ms, left_ms)
            group.new_member_added = False
            group.initial_delay_left_ms = left_ms - delay_ms
            group.join_deadline_ms = now_ms + delay_ms
            return  # the caller sets the timer
        self.complete_join(group, now_ms, out)

    def complete_join(self, group: ClassicGroup, now_ms: int, out: Decision) -> None:
        """The wait is over: the members that have joined form the next generation."""
        group.join_deadline_ms = NEVER_MS
        for member in [m for m in group.members.values() if m.join_ticket is None and not m.is_static]:
            group.remove(member.member_id)
        if group.members and not group.elect_leader():
            # Only static members are left, and none has joined yet: wait until they join or their sessions end.
            group.join_deadline_ms = now_ms + group.rebalance_timeout_ms
            self._set_group_timer(group)
            return
        group.initial_delay_left_ms = -1
        group.next_generation(now_ms)
        if group.state is EMPTY:
            out.record(GroupStored(group.group_id, group.to_metadata({})))
            return
        for member in group.members.values():
            ticket = group.take_join_ticket(member)
            if ticket is not None:
                out.reply(ticket, self.joined(group, member))
            self.keep_session(group, member, now_ms)
            member.is_new = False
            group.pending_sync[member.member_id] = None
        group.sync_deadline_ms = now_ms + group.rebalance_timeout_ms
        self._set_group_timer(group)

    def joined(self, group: ClassicGroup, member: Member, skip_assignment: bool = False) -> JoinGroupResponse:
        """The answer to a JoinGroup of the current generation; only the leader's answer lists all members."""
        is_leader = member.member_id == group.leader_id
        return JoinGroupResponse(
            generation_id=group.generation_id,
            protocol_type=group.protocol_type,
            protocol_name=group.protocol_name or "",
            leader=group.leader_id or "",
            skip_assignment=skip_assignment,
            member_id=member.member_id,
            members=group.member_rows() if is_leader else [],
        )

    # -- syncing
    # ----------------------------------------------------------------------------------------------

    def _sync_wait_over(self, group: ClassicGroup, now_ms: int, out: Decision) -> None:
        """Removes members that joined but have not sent SyncGroup in time."""
        group.sync_deadline_ms = NEVER_MS
        if group.state not in (COMPLETING, STABLE) or not group.pending_sync:
            return
        for member_id in list(group.pending_sync):
            self.expel(group, member_id, out)
        self.prepare(group, now_ms, out)

    def synced(self, group: ClassicGroup, member: Member) -> SyncGroupResponse:
        return SyncGroupResponse(
            protocol_type=group.protocol_type, protocol_name=group.protocol_name, assignment=member.assignment
        )

    def assign(self, group: ClassicGroup, assignments: dict[str, bytes], now_ms: int, out: Decision) -> None:
        """Records the leader's assignment and answers all waiting SyncGroups with it. The generation is Stable (I9)."""
        assert group.state is COMPLETING
        if self._is_too_large(group, assignments):
            self._answer_syncs(group, ErrorCode.UNKNOWN_SERVER_ERROR, now_ms, out)
            self.prepare(group, now_ms, out)
            return
        group.transition(STABLE, now_ms)
        out.record(GroupStored(group.group_id, group.to_metadata(assignments)))
        for member in group.members.values():
            member.assignment = assignments.get(member.member_id, b"")
            group.recount(member)
            if member.sync_ticket is not None:
                out.reply(member.sync_ticket, self.synced(group, member))
                member.sync_ticket = None
                self.keep_session(group, member, now_ms)

    def _answer_syncs(self, group: ClassicGroup, error: ErrorCode, now_ms: int, out: Decision) -> None:
        """Answers all waiting SyncGroups with ``error``: the generation ends without an assignment."""
        for member in group.members.values():
            member.assignment = b""
            group.recount(member)
            if member.sync_ticket is not None:
                self.keep_session(group, member, now_ms)
                out.reply(member.sync_ticket, SyncGroupResponse(error_code=error))
                member.sync_ticket = None

    def _is_too_large(self, group: ClassicGroup, assignments: dict[str, bytes]) -> bool:
        """Whether the group's record is too large for a batch (answered UNKNOWN_SERVER_ERROR, as in Kafka)."""
        size_bytes = sum(
            MEMBER_ROW_BYTES
            + len(member.metadata(group.protocol_name))
            + len(assignments.get(member_id, b""))
            for member_id, member in group.members.items()
        )
        return size_bytes > self.config.group_metadata_max_bytes

    def delete(self, group: ClassicGroup, now_ms: int) -> None:
        assert not group.members
        group.transition(DEAD, now_ms)
        group.join_deadline_ms = group.sync_deadline_ms = NEVER_MS
