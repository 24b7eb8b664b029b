"""A group with members over a simulated partition: they join, sync, commit on their generation, forget who they were,
and go on as zombies; whichever broker believes to lead coordinates them with the production shard.

What the committed log must hold: generations only grow, and no commit of an older generation comes behind a newer one
(fencing). What members are told: one generation has one assignment (I9), and a position acknowledged is there for every
later reader of the leader (I8).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.sim.clients import Attempt
from tests.sim.groups import shard_of
from tierlog.coordination.decision import Caller, Decision, Reply
from tierlog.coordination.records import GroupStored
from tierlog.errors import ErrorCode
from tierlog.wire.messages.heartbeat import HeartbeatRequest
from tierlog.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tierlog.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tierlog.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

if TYPE_CHECKING:
    from tests.sim.replica import SimReplica
    from tests.sim.world import World

GROUP, TOPIC = "m", "t"
SESSION_MS, REBALANCE_MS = 300, 80
FORGOTTEN = frozenset({ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID})


@dataclass
class Member:
    """One client. ``past``: who it was, as a zombie still says."""

    member_id: str = ""
    generation: int = -1
    is_synced: bool = False
    others: list[str] = field(default_factory=list)
    past: list[tuple[str, int]] = field(default_factory=list)
    # The leader epoch of the coordinator whose answer to a JoinGroup or SyncGroup is waited for.
    waits_for: int = -1

    def rejoin(self, *, is_forgotten: bool) -> None:
        if self.is_synced:
            self.past.append((self.member_id, self.generation))
        self.generation, self.is_synced, self.others = -1, False, []
        if is_forgotten:
            self.member_id = ""


@dataclass
class Commit:
    position: int
    generation: int


class Members:
    """``commits``: value of a record → what a member committed with it. ``assignments``: generation → the number of the
    SyncGroup whose assignments were told. ``stored_generation``: of the last committed record of the group."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.members = [Member() for _ in range(3)]
        self.asked: dict[int, tuple[Member, str, int, int]] = {}
        self.commits: dict[int, Commit] = {}
        self.assignments: dict[int, str] = {}
        self.stored_generation = -1
        self.position = 0
        self.told = -1
        self._next_ticket = 0
        self._next_sync = 0

    # -- what members do

    def step(self, replica: SimReplica) -> None:
        """The shard's time passes, and some members ask this broker something."""
        leader, rng = replica.leader, self.world.rng
        if leader is None or not leader.accepts_all_acks:
            return
        self.carry_out(replica, shard_of(replica).tick(replica.broker.now_ms))
        for member in self.members:
            is_waiting = member.waits_for == leader.leader_epoch and rng.random() < 0.9
            if not is_waiting and rng.random() < 0.7:
                self.carry_out(replica, self._ask_something(replica, member))
                shard_of(replica).check()

    def _ask_something(self, replica: SimReplica, member: Member) -> Decision:
        rng, leader = self.world.rng, replica.leader
        assert leader is not None
        if not member.is_synced or rng.random() < 0.05:
            member.waits_for = leader.leader_epoch
            return self._join_or_sync(replica, member)
        if rng.random() < 0.7:
            return self._commit(replica, member)
        return self._look_in(replica, member)

    def _ask(self, member: Member, what: str, generation: int = -1, position: int = -1) -> int:
        self._next_ticket += 1
        self.asked[self._next_ticket] = (member, what, generation, position)
        return self._next_ticket

    def _join_or_sync(self, replica: SimReplica, member: Member) -> Decision:
        shard, now_ms = shard_of(replica), replica.broker.now_ms
        if member.generation < 0 or member.is_synced:
            request = JoinGroupRequest(
                group_id=GROUP,
                session_timeout_ms=SESSION_MS,
                rebalance_timeout_ms=REBALANCE_MS,
                member_id=member.member_id,
                protocol_type="consumer",
                protocols=[JoinGroupRequestProtocol(name="range", metadata=b"")],
            )
            ticket = self._ask(member, "join")
            caller = Caller(9, "c", "/127.0.0.1", str(ticket))
            return shard.decide_join(ticket, request, caller, now_ms)
        self._next_sync += 1
        sync = SyncGroupRequest(
            group_id=GROUP,
            generation_id=member.generation,
            member_id=member.member_id,
            assignments=[
                SyncGroupRequestAssignment(member_id=m, assignment=f"{self._next_sync}/{m}".encode())
                for m in member.others
            ],
        )
        return shard.decide_sync(self._ask(member, "sync", member.generation), sync, now_ms)

    def _commit(self, replica: SimReplica, member: Member) -> Decision:
        """As who it is, or as who it was."""
        rng, shard = self.world.rng, shard_of(replica)
        member_id, generation = member.member_id, member.generation
        if member.past and rng.random() < 0.3:
            member_id, generation = rng.choice(member.past)
            self.world.counts["zombie members"] += 1
        self.position += 1
        row = OffsetCommitRequestPartition(partition_index=0, committed_offset=self.position)
        request = OffsetCommitRequest(
            group_id=GROUP,
            member_id=member_id,
            generation_id_or_member_epoch=generation,
            topics=[OffsetCommitRequestTopic(name=TOPIC, partitions=[row])],
        )
        ticket = self._ask(member, "commit", generation, self.position)
        return shard.decide_offset_commit(ticket, request, Caller(9), replica.broker.now_ms)

    def _look_in(self, replica: SimReplica, member: Member) -> Decision:
        rng, shard, now_ms = self.world.rng, shard_of(replica), replica.broker.now_ms
        if rng.random() < 0.2:
            leaving = LeaveGroupRequest(group_id=GROUP, members=[MemberIdentity(member_id=member.member_id)])
            decision = shard.decide_leave(self._ask(member, "leave"), leaving, Caller(5), now_ms)
            member.rejoin(is_forgotten=True)
            return decision
        beat = HeartbeatRequest(group_id=GROUP, member_id=member.member_id, generation_id=member.generation)
        return shard.decide_heartbeat(self._ask(member, "heartbeat"), beat, now_ms)

    # -- what becomes of it

    def carry_out(self, replica: SimReplica, decision: Decision) -> None:
        """Replayed and appended; its replies leave when it is committed, those without events when all before it is."""
        world, leader = self.world, replica.leader
        if not decision.events:
            assert leader is not None
            end = replica.log.log_end_offset
            if leader.high_watermark >= end:
                self.give_out(replica, decision.replies)
            elif decision.replies:
                replica.park(Decided(world, replica.log.records[-1].value, replica, decision.replies), end)
            return
        for event in decision.events:
            shard_of(replica).replay(event)
        world.value += 1
        world.group.events[world.value] = tuple(decision.events)
        for ticket, _ in decision.replies:
            _, what, generation, position = self.asked[ticket]
            if what == "commit":
                self.commits[world.value] = Commit(position, generation)
        replica.produce(Decided(world, world.value, replica, decision.replies))

    def give_out(self, replica: SimReplica, replies: list[Reply]) -> None:
        for ticket, response in replies:
            asked = self.asked.pop(ticket, None)
            if asked is not None and self.world.rng.random() < 0.95:
                member, what, generation, position = asked
                member.waits_for = -1
                getattr(self, "_told_" + what)(member, response, generation, position)

    def _told_join(self, member: Member, response: Any, generation: int, position: int) -> None:
        if response.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            member.member_id = response.member_id
        elif self._is_refused(member, response.error_code):
            return
        else:
            member.member_id, member.generation = response.member_id, response.generation_id
            member.is_synced = False
            member.others = [m.member_id for m in response.members]

    def _told_sync(self, member: Member, response: Any, generation: int, position: int) -> None:
        if self._is_refused(member, response.error_code):
            return
        self.world.counts["assignments told"] += 1
        sync, _, whose = response.assignment.decode().partition("/")
        if not sync:
            return  # the leader did not know of it
        if self.assignments.setdefault(generation, sync) != sync:
            self.world.checker.fail(
                f"I9: generation {generation} has the assignments {self.assignments[generation]} and {sync}"
            )
        if (whose, generation) == (member.member_id, member.generation):
            member.is_synced = True

    def _told_commit(self, member: Member, response: Any, generation: int, position: int) -> None:
        code = response.topics[0].partitions[0].error_code
        if code:
            self.world.counts["member commits refused"] += 1
            if generation == member.generation:
                self._is_refused(member, code)
            return
        self.world.counts["member commits"] += 1
        self.told = max(self.told, position)

    def _told_heartbeat(self, member: Member, response: Any, generation: int, position: int) -> None:
        self._is_refused(member, response.error_code)

    def _told_leave(self, member: Member, response: Any, generation: int, position: int) -> None:
        pass

    def _is_refused(self, member: Member, code: int) -> bool:
        if code:
            member.rejoin(is_forgotten=code in FORGOTTEN)
        return bool(code)

    # -- what must hold

    def on_committed(self, value: int) -> None:
        """The next record of the partition is committed."""
        for event in self.world.group.events.get(value, ()):
            if isinstance(event, GroupStored) and event.group_id == GROUP and event.metadata is not None:
                generation = event.metadata.generation
                if generation < self.stored_generation:
                    self.world.checker.fail(
                        f"I9: generation {generation} is stored after {self.stored_generation}"
                    )
                self.world.counts["generations"] += generation > self.stored_generation
                self.stored_generation = generation
        commit = self.commits.get(value)
        if commit is not None and commit.generation < self.stored_generation:
            self.world.checker.fail(
                f"I9: a commit of generation {commit.generation} behind generation {self.stored_generation}"
            )

    def read(self, replica: SimReplica) -> None:
        """As ``GroupClient.read``."""
        leader = replica.leader
        if leader is None or leader.high_watermark < replica.log.log_end_offset:
            return
        if leader.leader_epoch != self.world.checker.truth[replica.partition].leader_epoch:
            return
        found = shard_of(replica).offsets.of(GROUP, TOPIC, 0)
        position = -1 if found is None else found.offset
        if position < self.told:
            self.world.checker.fail(
                f"I8: {replica} has position {position} of the members, {self.told} was acknowledged"
            )


class Decided(Attempt):
    """The record of one decision; its acknowledgement lets the replies go."""

    __slots__ = ("replica", "replies")

    def __init__(self, world: World, value: int, replica: SimReplica, replies: list[Reply]) -> None:
        super().__init__(world, 0, value, -1, -1)
        self.needs_all_acks = True
        self.replica = replica
        self.replies = replies

    def answer(self, error: ErrorCode, offset: int) -> None:
        if not error:
            self.world.members.give_out(self.replica, self.replies)
