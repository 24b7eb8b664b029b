"""JoinGroup, SyncGroup, Heartbeat and LeaveGroup of the classic protocol, as decisions about one group.

Nothing here touches hard state. The order of the checks is Kafka's, since clients see which error comes
first.
"""

from __future__ import annotations

from tierlog.coordination.classic_group import (
    COMPLETING,
    EMPTY,
    PREPARING,
    STABLE,
    ClassicGroup,
    Member,
    plain_protocols,
)
from tierlog.coordination.decision import Caller, Decision, Ticket
from tierlog.coordination.rebalance import NEW_MEMBER_JOIN_TIMEOUT_MS, Rebalancer
from tierlog.coordination.records import GroupStored
from tierlog.errors import ErrorCode
from tierlog.wire.messages.heartbeat import HeartbeatRequest
from tierlog.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse
from tierlog.wire.messages.leave_group import MemberIdentity, MemberResponse
from tierlog.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

MEMBER_ID_REQUIRED_SINCE = 4  # JoinGroup version, KIP-394
NULLABLE_PROTOCOL_SINCE = 7  # JoinGroup version
SKIP_ASSIGNMENT_SINCE = 9  # JoinGroup version, KIP-814
MAX_CLIENT_ID_CHARS = 4096  # of the client id in a member id, so that the member id fits every version


def refuse_join(error: ErrorCode, member_id: str, api_version: int) -> JoinGroupResponse:
    name = None if api_version >= NULLABLE_PROTOCOL_SINCE else ""
    return JoinGroupResponse(error_code=error, member_id=member_id, protocol_name=name)


def accepts_joining(group: ClassicGroup, member_id: str, size_max: int) -> bool:
    """Whether ``group.max.size`` leaves room. In PreparingRebalance only members that have joined count, so that
    a group that is too large loses those that come late."""
    if group.state is PREPARING:
        member = group.members.get(member_id)
        return (member is not None and member.join_ticket is not None) or group.awaiting_join_count < size_max
    if group.state is EMPTY:
        return True
    return member_id in group.members or len(group.members) < size_max


class Join:
    """One JoinGroup being decided for an existing or fresh group."""

    __slots__ = ("caller", "group", "now_ms", "out", "request", "rules", "ticket")

    def __init__(
        self,
        rules: Rebalancer,
        group: ClassicGroup,
        ticket: Ticket,
        request: JoinGroupRequest,
        caller: Caller,
        now_ms: int,
        out: Decision,
    ) -> None:
        self.rules = rules
        self.group = group
        self.ticket = ticket
        self.request = request
        self.caller = caller
        self.now_ms = now_ms
        self.out = out

    def decide(self) -> None:
        group, request, member_id = self.group, self.request, self.request.member_id
        if not accepts_joining(group, member_id, self.rules.config.group_max_size):
            if member_id in group.members:
                self.rules.expel(group, member_id, self.out)
            group.remove(member_id)
            self._refuse(ErrorCode.GROUP_MAX_SIZE_REACHED)
            self.rules.complete_join_if_all_joined(group, self.now_ms, self.out)
        elif not group.supports(request.protocol_type, request.protocols):
            self._refuse(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, member_id)
        elif member_id:
            self._join_known()
        elif request.group_instance_id is not None:
            self._join_new_static(request.group_instance_id)
        else:
            self._join_new_dynamic()

    def _refuse(self, error: ErrorCode, member_id: str = "") -> None:
        self.out.reply(self.ticket, refuse_join(error, member_id, self.caller.api_version))

    def _fresh_member_id(self, prefix: str) -> str:
        return f"{prefix[:MAX_CLIENT_ID_CHARS]}-{self.caller.fresh_id}"

    def _join_new_dynamic(self) -> None:
        member_id = self._fresh_member_id(self.caller.client_id)
        if self.caller.api_version < MEMBER_ID_REQUIRED_SINCE:
            self._add(member_id)
            return
        self.rules.await_pending(self.group, member_id, self.now_ms + self.request.session_timeout_ms)
        self._refuse(ErrorCode.MEMBER_ID_REQUIRED, member_id)

    def _join_new_static(self, instance_id: str) -> None:
        member_id = self._fresh_member_id(instance_id)
        if instance_id not in self.group.static_members:
            self._add(member_id)
            return
        self._replace_static(instance_id, member_id)

    def _join_known(self) -> None:
        group, request = self.group, self.request
        member_id = request.member_id
        if member_id in group.pending_members:
            self._add(member_id)
            return
        error = group.validate_member(member_id, request.group_instance_id)
        if error:
            self._refuse(error, member_id)
            return
        member = group.members[member_id]
        unchanged = member.protocols == plain_protocols(request.protocols)
        may_stay = group.state is COMPLETING or (group.state is STABLE and member_id != group.leader_id)
        if may_stay and unchanged:
            # The answer was lost, or a member that is not the leader joins again: the generation goes on. A
            # leader that joins again in Stable wants a rebalance, e.g. because topics changed.
            self.out.reply(self.ticket, self.rules.joined(group, member))
            return
        self._update(member)
        self.rules.rebalance_or_complete(group, self.now_ms, self.out)

    def _add(self, member_id: str) -> None:
        group, request = self.group, self.request
        member = Member(
            member_id,
            request.group_instance_id,
            self.caller.client_id,
            self.caller.client_host,
            request.session_timeout_ms,
            self._rebalance_timeout_ms(),
            plain_protocols(request.protocols),
            is_new=True,
        )
        if group.state is PREPARING and group.previous_state is EMPTY:
            group.new_member_added = True
        group.add(member, request.protocol_type, self.ticket)
        # A new member cannot send heartbeats while its JoinGroup waits; this timeout drops it if the client gave up.
        self.rules.keep_session(group, member, self.now_ms, NEW_MEMBER_JOIN_TIMEOUT_MS)
        self.rules.rebalance_or_complete(group, self.now_ms, self.out)

    def _update(self, member: Member) -> None:
        group, request = self.group, self.request
        old_ticket = group.take_join_ticket(member)
        if old_ticket is not None:
            # The client gave up on its first request and sent another.
            self.out.reply(
                old_ticket,
                refuse_join(ErrorCode.REBALANCE_IN_PROGRESS, member.member_id, self.caller.api_version),
            )
        if member.sync_ticket is not None:
            self.out.reply(member.sync_ticket, SyncGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS))
            member.sync_ticket = None
        group.update(
            member,
            plain_protocols(request.protocols),
            self._rebalance_timeout_ms(),
            request.session_timeout_ms,
            self.ticket,
        )

    def _rebalance_timeout_ms(self) -> int:
        request = self.request
        # Version 0 has no rebalance timeout: the session timeout is used instead.
        return (
            request.session_timeout_ms if request.rebalance_timeout_ms == -1 else request.rebalance_timeout_ms
        )

    def _replace_static(self, instance_id: str, new_member_id: str) -> None:
        """The instance restarted and does not know its member id (KIP-345)."""
        group, rules = self.group, self.rules
        old_leader = group.leader_id
        member = rules.replace_static(group, instance_id, new_member_id, self.out)
        rules.keep_session(group, member, self.now_ms)
        self._update(member)
        if group.state is PREPARING:
            rules.complete_join_if_all_joined(group, self.now_ms, self.out)
        elif group.state is COMPLETING or group.select_protocol() != group.protocol_name:
            # The leader may have been told the old member id, or the selected protocol changes: all members
            # join again.
            rules.prepare(group, self.now_ms, self.out)
        else:
            # Nothing changes for the others: no rebalance, the new member id takes over the assignment.
            group.take_join_ticket(member)
            assignments = {m.member_id: m.assignment for m in group.members.values()}
            self.out.record(GroupStored(group.group_id, group.to_metadata(assignments)))
            if self.caller.api_version >= SKIP_ASSIGNMENT_SINCE:
                is_leader = group.leader_id == new_member_id
                self.out.reply(self.ticket, rules.joined(group, member, skip_assignment=is_leader))
            else:
                # An old client that hears it leads would assign anew: it is told the old leader's member id.
                response = rules.joined(group, member)
                response.leader = old_leader or ""
                response.members = []
                self.out.reply(self.ticket, response)


def decide_sync(
    rules: Rebalancer,
    group: ClassicGroup,
    ticket: Ticket,
    request: SyncGroupRequest,
    now_ms: int,
    out: Decision,
) -> None:
    """Members wait for the leader's assignment; that is recorded and ends the rebalance."""
    error = group.validate_member(request.member_id, request.group_instance_id)
    if not error and request.generation_id != group.generation_id:
        error = ErrorCode.ILLEGAL_GENERATION
    if not error and (
        _differs(request.protocol_type, group.protocol_type)
        or _differs(request.protocol_name, group.protocol_name)
    ):
        error = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    if not error and group.state is PREPARING:
        error = ErrorCode.REBALANCE_IN_PROGRESS
    if error:
        out.reply(ticket, SyncGroupResponse(error_code=error))
        return
    member = group.members[request.member_id]
    group.pending_sync.pop(request.member_id, None)
    if group.state is STABLE:
        out.reply(ticket, rules.synced(group, member))
        return
    assert group.state is COMPLETING
    if member.sync_ticket is not None:
        out.reply(member.sync_ticket, SyncGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS))
    member.sync_ticket = ticket
    if request.member_id == group.leader_id:
        rules.assign(group, {a.member_id: bytes(a.assignment) for a in request.assignments}, now_ms, out)


def _differs(asked: str | None, actual: str | None) -> bool:
    return asked is not None and actual is not None and asked != actual


def heartbeat_error(
    rules: Rebalancer, group: ClassicGroup, request: HeartbeatRequest, now_ms: int
) -> ErrorCode:
    """Keeps the session alive; REBALANCE_IN_PROGRESS tells the member to join again."""
    error = group.validate_member(request.member_id, request.group_instance_id)
    if error:
        return error
    if request.generation_id != group.generation_id:
        return ErrorCode.ILLEGAL_GENERATION
    rules.keep_session(group, group.members[request.member_id], now_ms)
    return ErrorCode.REBALANCE_IN_PROGRESS if group.state is PREPARING else ErrorCode.NONE


def decide_leave(
    rules: Rebalancer, group: ClassicGroup, leaving: list[MemberIdentity], now_ms: int, out: Decision
) -> list[MemberResponse]:
    """Removes each of ``leaving`` that is a member; one rebalance for all of them."""
    rows = []
    count = len(group.members)
    for identity in leaving:
        error = _leave(rules, group, identity, out)
        rows.append(
            MemberResponse(
                member_id=identity.member_id, group_instance_id=identity.group_instance_id, error_code=error
            )
        )
    if len(group.members) < count:
        rules.after_removal(group, now_ms, out)
    else:
        rules.complete_join_if_all_joined(group, now_ms, out)
    return rows


def _leave(rules: Rebalancer, group: ClassicGroup, identity: MemberIdentity, out: Decision) -> ErrorCode:
    member_id, instance_id = identity.member_id, identity.group_instance_id
    if not member_id:
        # An administrator removes a static member by its instance id alone (KIP-345).
        known = None if instance_id is None else group.static_members.get(instance_id)
        if known is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        rules.expel(group, known, out)
        return ErrorCode.NONE
    if member_id in group.pending_members:
        group.remove(member_id)
        return ErrorCode.NONE
    error = group.validate_member(member_id, instance_id)
    if not error:
        rules.expel(group, member_id, out)
    return error
