"""One classic group in memory: members, protocols, leader, generation, timers. Soft state.

Kafka's table of states, with the one function that moves between them::

    Empty → PreparingRebalance → CompletingRebalance → Stable → PreparingRebalance …
    PreparingRebalance → Empty when the last member is gone; everything → Dead when the group is deleted.

Only the ``GroupMetadataValue`` of the last record survives the shard; ``from_metadata`` builds the group from
it. The rules that drive rebalances are in ``rebalance``; this class keeps its tables consistent (``check``).

Invariants: a member awaits a join only in PreparingRebalance; ``awaiting_join_count`` counts them;
``static_members`` maps each instance id to exactly one member (KIP-345); a pending member (KIP-394) is not a
member; the leader is a member.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tierlog.coordination.decision import Ticket
from tierlog.errors import ErrorCode, MalformedMessage
from tierlog.wire.codec import decode
from tierlog.wire.messages.consumer_protocol import ConsumerProtocolSubscription
from tierlog.wire.messages.group_records import GroupMetadataValue, MemberMetadata
from tierlog.wire.messages.join_group import JoinGroupRequestProtocol, JoinGroupResponseMember

CONSUMER_PROTOCOL_TYPE = "consumer"
NEVER_MS = 1 << 62
MEMBER_BYTES = 600  # memory of the objects of a member or a group, without its strings and bytes
PENDING_BYTES = 150


class GroupState(Enum):
    """Values are the names that ListGroups and DescribeGroups answer."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


EMPTY, PREPARING, COMPLETING, STABLE, DEAD = GroupState

# Dead is terminal; deleting twice is a bug, so it has no self-transition.
TRANSITIONS: dict[GroupState, frozenset[GroupState]] = {
    EMPTY: frozenset({PREPARING, DEAD}),
    PREPARING: frozenset({COMPLETING, EMPTY, DEAD}),
    COMPLETING: frozenset({STABLE, PREPARING, DEAD}),
    STABLE: frozenset({PREPARING, DEAD}),
    DEAD: frozenset(),
}
CAN_REBALANCE = frozenset(state for state, following in TRANSITIONS.items() if PREPARING in following)


class Held:
    """Bytes of group metadata that one shard holds: what members sent, and the assignments that they got."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


@dataclass(slots=True, eq=False)
class Member:
    """A member of a classic group. ``protocols`` are (name, metadata) in the member's order of preference."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]
    assignment: bytes = b""
    is_new: bool = False  # joined and not yet told its member id by a completed rebalance
    join_ticket: Ticket | None = None  # the JoinGroup that waits for the rebalance
    sync_ticket: Ticket | None = None  # the SyncGroup that waits for the leader's assignment
    session_deadline_ms: int = NEVER_MS  # removed at this time unless heard of
    timer_at_ms: int = NEVER_MS  # when the shard's timer queue will look at the member next
    held_bytes: int = 0  # ``size_bytes`` when it was last counted

    @property
    def size_bytes(self) -> int:
        """The member's approximate memory; its protocols and assignment count in full."""
        texts = (
            len(self.member_id) + len(self.instance_id or "") + len(self.client_id) + len(self.client_host)
        )
        sent = sum([len(name) + len(metadata) for name, metadata in self.protocols])
        return MEMBER_BYTES + texts + sent + len(self.assignment)

    @property
    def is_static(self) -> bool:
        return self.instance_id is not None

    def metadata(self, protocol_name: str | None) -> bytes:
        for name, metadata in self.protocols:
            if name == protocol_name:
                return metadata
        return b""


def plain_protocols(protocols: list[JoinGroupRequestProtocol]) -> tuple[tuple[str, bytes], ...]:
    """The protocols of a request, copied out of its buffer."""
    return tuple((protocol.name, bytes(protocol.metadata)) for protocol in protocols)


@dataclass(slots=True, eq=False)
class ClassicGroup:
    """See the module head. Times are on the clock of the shard's ``now_ms``."""

    group_id: str
    state: GroupState = EMPTY
    previous_state: GroupState = EMPTY
    state_timestamp_ms: int = -1  # when ``state`` was entered; persisted, for the expiry of offsets (KIP-211)
    generation_id: int = 0
    protocol_type: str | None = None
    protocol_name: str | None = None
    leader_id: str | None = None
    members: dict[str, Member] = field(default_factory=dict)  # in order of joining
    static_members: dict[str, str] = field(default_factory=dict)  # instance id -> member id
    pending_members: dict[str, int] = field(
        default_factory=dict
    )  # member id given out -> deadline_ms (KIP-394)
    pending_sync: dict[str, None] = field(
        default_factory=dict
    )  # members of this generation that have not sent SyncGroup yet
    awaiting_join_count: int = 0
    supporters: dict[str, int] = field(default_factory=dict)  # protocol name -> members that offer it
    subscribed_topics: frozenset[str] | None = None  # None: unknown
    join_deadline_ms: int = NEVER_MS  # end of the wait for members in PreparingRebalance
    initial_delay_left_ms: int = (
        -1
    )  # how much longer the first rebalance may be delayed; -1: this is not the first one
    new_member_added: bool = False  # a member came during the current initial delay
    sync_deadline_ms: int = NEVER_MS  # end of the wait for SyncGroup of all members
    timer_at_ms: int = NEVER_MS
    held: Held = field(default_factory=Held)  # shared by all groups of the shard
    held_bytes: int = 0  # of this group, within ``held``

    @classmethod
    def from_metadata(
        cls, group_id: str, stored: GroupMetadataValue, held: Held | None = None
    ) -> ClassicGroup:
        """The group as its last record left it: Stable with members, else Empty. No session runs yet."""
        group = cls(group_id, state=STABLE if stored.members else EMPTY, held=held or Held())
        group.previous_state = group.state
        group.state_timestamp_ms = stored.current_state_timestamp
        group.generation_id = stored.generation
        group.protocol_type = stored.protocol_type or None
        group.protocol_name = stored.protocol
        group.leader_id = stored.leader
        for row in stored.members:
            timeout_ms = row.session_timeout if row.rebalance_timeout == -1 else row.rebalance_timeout
            group.add(
                Member(
                    row.member_id,
                    row.group_instance_id,
                    row.client_id,
                    row.client_host,
                    row.session_timeout,
                    timeout_ms,
                    ((stored.protocol or "", row.subscription),),
                    row.assignment,
                ),
                stored.protocol_type,
            )
        group.subscribed_topics = group._subscribed_topics()
        return group

    def to_metadata(self, assignments: dict[str, bytes]) -> GroupMetadataValue:
        """The persisted form of the group, with ``assignments`` by member id."""
        return GroupMetadataValue(
            protocol_type=self.protocol_type or "",
            generation=self.generation_id,
            protocol=self.protocol_name,
            leader=self.leader_id,
            current_state_timestamp=self.state_timestamp_ms,
            members=[
                MemberMetadata(
                    member_id=member.member_id,
                    group_instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    rebalance_timeout=member.rebalance_timeout_ms,
                    session_timeout=member.session_timeout_ms,
                    subscription=member.metadata(self.protocol_name),
                    assignment=assignments.get(member.member_id, b""),
                )
                for member in self.members.values()
            ],
        )

    def transition(self, state: GroupState, now_ms: int) -> None:
        assert state in TRANSITIONS[self.state], f"{self.group_id}: {self.state} to {state}"
        self.previous_state = self.state
        self.state = state
        self.state_timestamp_ms = now_ms

    # -- members
    # ----------------------------------------------------------------------------------------------

    def add(self, member: Member, protocol_type: str, ticket: Ticket | None = None) -> None:
        assert member.member_id not in self.members
        if member.instance_id is not None:
            assert member.instance_id not in self.static_members
            self.static_members[member.instance_id] = member.member_id
        if not self.members:
            self.protocol_type = protocol_type
        if self.leader_id is None:
            self.leader_id = member.member_id
        self.members[member.member_id] = member
        self.forget_pending(member.member_id)
        self._count_protocols(member, 1)
        self.recount(member)
        self._await_join(member, ticket)

    def remove(self, member_id: str) -> Member | None:
        """Removes a member and returns it; for a pending member returns None. Its tickets must have been answered."""
        self.forget_pending(member_id)
        self.pending_sync.pop(member_id, None)
        member = self.members.pop(member_id, None)
        if member is None:
            return None
        assert member.join_ticket is None
        assert member.sync_ticket is None
        self._count_protocols(member, -1)
        self._hold(-member.held_bytes)
        if member.instance_id is not None and self.static_members.get(member.instance_id) == member_id:
            del self.static_members[member.instance_id]
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)
        return member

    def update(
        self,
        member: Member,
        protocols: tuple[tuple[str, bytes], ...],
        rebalance_ms: int,
        session_ms: int,
        ticket: Ticket,
    ) -> None:
        """The member joined again: adopts the protocols and timeouts of the new request."""
        self._count_protocols(member, -1)
        member.protocols = protocols
        self._count_protocols(member, 1)
        self.recount(member)
        member.rebalance_timeout_ms = rebalance_ms
        member.session_timeout_ms = session_ms
        self._await_join(member, ticket)

    def replace_static(self, instance_id: str, new_member_id: str) -> Member:
        """Gives the static member a new member id, which keeps its place in the order; old tickets must have
        been answered."""
        old_member_id = self.static_members[instance_id]
        member = self.members[old_member_id]
        assert member.join_ticket is None
        assert member.sync_ticket is None
        member.member_id = new_member_id
        member.timer_at_ms = NEVER_MS  # the timer queue's entry has the old member id
        self.members = {m.member_id: m for m in self.members.values()}
        self.static_members[instance_id] = new_member_id
        if old_member_id in self.pending_sync:
            del self.pending_sync[old_member_id]
            self.pending_sync[new_member_id] = None
        if self.leader_id == old_member_id:
            self.leader_id = new_member_id
        return member

    def take_join_ticket(self, member: Member) -> Ticket | None:
        ticket, member.join_ticket = member.join_ticket, None
        if ticket is not None:
            self.awaiting_join_count -= 1
        return ticket

    def _await_join(self, member: Member, ticket: Ticket | None) -> None:
        assert member.join_ticket is None
        if ticket is not None:
            member.join_ticket = ticket
            self.awaiting_join_count += 1

    def _count_protocols(self, member: Member, step: int) -> None:
        # A member may name a protocol twice; that counts as one supporter.
        for name in dict(member.protocols):
            count = self.supporters.get(name, 0) + step
            if count:
                self.supporters[name] = count
            else:
                self.supporters.pop(name, None)

    # -- bytes (I15)

    def recount(self, member: Member) -> None:
        """Counts the member's bytes again after they changed."""
        size_bytes = member.size_bytes
        self._hold(size_bytes - member.held_bytes)
        member.held_bytes = size_bytes

    def _hold(self, size_bytes: int) -> None:
        self.held_bytes += size_bytes
        self.held.bytes += size_bytes

    def add_pending(self, member_id: str, deadline_ms: int) -> None:
        """Notes a member id that was given out (KIP-394) and is not used yet."""
        self.forget_pending(member_id)
        self.pending_members[member_id] = deadline_ms
        self._hold(PENDING_BYTES + len(member_id))

    def forget_pending(self, member_id: str) -> None:
        if self.pending_members.pop(member_id, None) is not None:
            self._hold(-PENDING_BYTES - len(member_id))

    # -- queries
    # --------------------------------------------------------------------------------------------

    @property
    def rebalance_timeout_ms(self) -> int:
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    @property
    def all_joined(self) -> bool:
        return len(self.members) == self.awaiting_join_count and not self.pending_members

    def supports(self, protocol_type: str, protocols: list[JoinGroupRequestProtocol]) -> bool:
        """Whether a member with these protocols can join: one of them is offered by every present member."""
        if self.state is EMPTY:
            return bool(protocol_type) and bool(protocols)
        count = len(self.members)
        return protocol_type == self.protocol_type and any(
            self.supporters.get(protocol.name, 0) == count for protocol in protocols
        )

    def member_of(self, member_id: str, instance_id: str | None) -> Member | None:
        """The member with this member id; without one, the static member that the instance id would replace."""
        known = member_id or self.static_members.get(instance_id or "", "")
        return self.members.get(known)

    def validate_member(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """NONE, UNKNOWN_MEMBER_ID, or FENCED_INSTANCE_ID if the instance id belongs to another member by now."""
        if instance_id is not None:
            known = self.static_members.get(instance_id)
            if known is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if known != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        return ErrorCode.NONE if member_id in self.members else ErrorCode.UNKNOWN_MEMBER_ID

    def select_protocol(self) -> str:
        """Of the protocols that all members support, the one that most prefer; the earliest vote breaks a tie."""
        assert self.members
        count = len(self.members)
        votes: dict[str, int] = {}
        for member in self.members.values():
            name = next(name for name, _ in member.protocols if self.supporters[name] == count)
            votes[name] = votes.get(name, 0) + 1
        return max(votes, key=lambda name: votes[name])

    def is_subscribed(self, topic: str) -> bool:
        """Whether members are subscribed to ``topic``; a consumer group whose subscriptions are unknown counts
        as subscribed."""
        if self.subscribed_topics is None:
            return self.protocol_type == CONSUMER_PROTOCOL_TYPE
        return topic in self.subscribed_topics

    def member_rows(self) -> list[JoinGroupResponseMember]:
        """The members as the JoinGroup answer lists them for the leader."""
        return [
            JoinGroupResponseMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                metadata=member.metadata(self.protocol_name),
            )
            for member in self.members.values()
        ]

    def elect_leader(self) -> bool:
        """If the leader has not joined, makes a member that has joined the leader. Returns whether the group
        then has a leader that has joined."""
        if self.leader_id is None:
            return False
        if self.members[self.leader_id].join_ticket is not None:
            return True
        joined = (m.member_id for m in self.members.values() if m.join_ticket is not None)
        new_leader = next(joined, None)
        if new_leader is None:
            return False
        self.leader_id = new_leader
        return True

    def next_generation(self, now_ms: int) -> None:
        self.generation_id = self.generation_id + 1 if self.generation_id < 2**31 - 1 else 1
        self.pending_sync.clear()
        self.protocol_name = self.select_protocol() if self.members else None
        self.subscribed_topics = self._subscribed_topics()
        self.transition(COMPLETING if self.members else EMPTY, now_ms)

    def _subscribed_topics(self) -> frozenset[str] | None:
        if self.protocol_type != CONSUMER_PROTOCOL_TYPE:
            return None
        if not self.members:
            return frozenset()
        topics: set[str] = set()
        for member in self.members.values():
            metadata = member.metadata(self.protocol_name)
            try:
                version = int.from_bytes(metadata[:2], "big", signed=True)
                newest = ConsumerProtocolSubscription.VERSIONS[1]
                subscription, _ = decode(ConsumerProtocolSubscription, min(version, newest), metadata, 2)
            except MalformedMessage:
                return None
            topics.update(subscription.topics)
        return frozenset(topics)

    def check(self) -> None:
        """The invariants of the module head."""
        waiting = [m for m in self.members.values() if m.join_ticket is not None]
        assert self.awaiting_join_count == len(waiting)
        assert not waiting or self.state is PREPARING
        assert all(m.sync_ticket is None or self.state is COMPLETING for m in self.members.values())
        assert bool(self.members) or self.state in (EMPTY, PREPARING, DEAD)
        assert self.state is not EMPTY or not self.members
        assert self.static_members == {
            m.instance_id: m.member_id for m in self.members.values() if m.is_static
        }
        assert self.pending_members.keys().isdisjoint(self.members.keys())
        assert self.pending_sync.keys() <= self.members.keys()
        held = sum(member.held_bytes for member in self.members.values())
        assert self.held_bytes == held + sum(PENDING_BYTES + len(each) for each in self.pending_members)
        assert self.leader_id is None or self.leader_id in self.members
        assert all(member_id == member.member_id for member_id, member in self.members.items())
