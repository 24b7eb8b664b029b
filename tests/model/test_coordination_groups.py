"""Groups against a naive model: random members, commits, time, and crashes that lose the uncommitted end of
the log.

What is checked after each step:

* the shard's hard state is the replay of its log: last value per key, nothing else (I8);
* a crash may cut the log anywhere above the high watermark; whatever a client was told before still holds
after it (I8):
  a committed position is there, an assignment of a generation is the one recorded;
* all assignments that members of one generation were told come from one SyncGroup of its leader (I9);
* every request is answered once, or is held by exactly one member.
"""

from __future__ import annotations

from typing import Any

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.coordination.world import World
from tierlog.coordination.decision import Decision
from tierlog.coordination.records import GroupStored, OffsetCommitted, decode_event
from tierlog.errors import ErrorCode

GROUPS = st.sampled_from(["g", "h"])
INDEXES = st.integers(0, 5)


class ReplicatedWorld(World):
    """Replies become visible when the log is committed up to where it was when they were decided."""

    def __init__(self) -> None:
        self.positions: dict[int, int] = {}
        self.committed_count = 0
        super().__init__(group_max_size=4)

    def carry_out(self, decision: Decision) -> None:
        super().carry_out(decision)
        for ticket, _ in decision.replies:
            self.positions[ticket] = len(self.log)

    def crash(self, kept_count: int) -> None:
        """The tail of the log is lost, and so are the answers that had seen it."""
        assert kept_count >= self.committed_count
        del self.log[kept_count:]
        self.positions = {t: p for t, p in self.positions.items() if p <= kept_count}
        self.restart()


class Groups(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = ReplicatedWorld()
        self.members: dict[str, list[tuple[str, str | None]]] = {"g": [], "h": []}
        self.joins: dict[int, tuple[str, str | None]] = {}
        self.syncs: dict[int, tuple[str, int, str]] = {}
        self.commits: dict[int, tuple[str, int, int]] = {}
        self.told: dict[tuple[str, int], set[bytes]] = {}  # group, generation -> assignments clients saw
        self.sync_count = 0
        self.next_offset = 1

    @initialize(count=st.integers(0, 3), instance=st.sampled_from([None, "i1"]))
    def begin(self, count: int, instance: str | None) -> None:
        """Most interesting things begin with a group that works."""
        for _ in range(count):
            self.join_new("g", 9, None)
        self.join_new("g", 9, instance)
        self.dance("g")
        self.dance("g")
        self.replicate(1.0)

    def pick(self, group: str, index: int) -> tuple[str, str | None]:
        known = self.members[group]
        return known[index % len(known)] if known else ("nobody", None)

    # -- what clients do

    @rule(group=GROUPS, version=st.sampled_from([3, 9]), instance=st.sampled_from([None, None, "i1", "i2"]))
    def join_new(self, group: str, version: int, instance: str | None) -> None:
        ticket = self.world.send_join(group, version=version, instance=instance)
        self.joins[ticket] = (group, instance)

    @rule(group=GROUPS, index=INDEXES, topic=st.sampled_from([b"a", b"b"]))
    def join_again(self, group: str, index: int, topic: bytes) -> None:
        member, instance = self.pick(group, index)
        ticket = self.world.send_join(group, member, instance=instance, protocols={"range": topic})
        self.joins[ticket] = (group, instance)

    @rule(group=GROUPS, index=INDEXES, stale=st.integers(0, 3))
    def sync(self, group: str, index: int, stale: int) -> None:
        found = self.world.shard.groups.get(group)
        member, instance = self.pick(group, index)
        if found is None:
            return
        self.sync_count += 1
        generation = found.generation_id - (1 if stale == 3 else 0)
        parts = {m: f"{self.sync_count}/{m}".encode() for m in found.members}
        ticket = self.world.send_sync(member, generation, parts, group=group, instance=instance)
        self.syncs[ticket] = (group, generation, member)

    @rule(group=GROUPS, sync_count=st.integers(1, 6))
    def dance(self, group: str, sync_count: int = 6) -> None:
        """What well-behaved clients do: everybody who is known joins, time passes, everybody (or only some)
        syncs."""
        self.replicate(1.0)
        for index in range(len(self.members[group])):
            self.join_again(group, index, b"a")
        self.time_passes(200)
        self.replicate(1.0)
        last_first = list(reversed(range(len(self.members[group]))))
        for index in last_first[:sync_count]:
            self.sync(group, index, 0)

    @rule(group=GROUPS, index=INDEXES)
    def heartbeat(self, group: str, index: int) -> None:
        found = self.world.shard.groups.get(group)
        member, instance = self.pick(group, index)
        self.world.heartbeat(member, found.generation_id if found else 0, group=group, instance=instance)

    @rule(group=GROUPS, index=INDEXES, partition=st.integers(0, 1), simple=st.booleans())
    def commit(self, group: str, index: int, partition: int, simple: bool) -> None:
        found = self.world.shard.groups.get(group)
        member, instance = ("", None) if simple else self.pick(group, index)
        generation = -1 if simple or found is None else found.generation_id
        offset, self.next_offset = self.next_offset, self.next_offset + 1
        error = self.world.commit(
            offset, member, generation, group=group, partition=partition, instance=instance
        )
        if not error:
            self.commits[max(self.world.positions)] = (group, partition, offset)

    @rule(group=GROUPS, index=INDEXES)
    def leave(self, group: str, index: int) -> None:
        member, instance = self.pick(group, index)
        self.world.leave(member, group=group, instance=instance)

    @rule(group=GROUPS)
    def delete(self, group: str) -> None:
        ticket = self.world.ticket()
        self.world.carry_out(self.world.shard.decide_delete_group(ticket, group, self.world.now_ms))
        if self.world.answers[ticket].error_code == ErrorCode.NONE:
            # From here on positions told before are gone, and generations begin anew.
            self.commits = {t: c for t, c in self.commits.items() if c[0] != group}
            self.syncs = {t: s for t, s in self.syncs.items() if s[0] != group}
            self.told = {key: told for key, told in self.told.items() if key[0] != group}
            self.replicate(1.0)

    # -- what happens to them

    @rule(ms=st.sampled_from([1, 100, 3_000, 11_000, 70_000]))
    def time_passes(self, ms: int) -> None:
        self.world.advance(ms)

    @rule(share=st.sampled_from([0.3, 1.0]))
    def replicate(self, share: float) -> None:
        behind = len(self.world.log) - self.world.committed_count
        self.world.committed_count += max(1, int(behind * share)) if behind else 0
        self.see_answers()

    @precondition(lambda self: self.world.log)
    @rule(share=st.floats(0, 1))
    def crash(self, share: float) -> None:
        self.see_answers()
        behind = len(self.world.log) - self.world.committed_count
        self.world.crash(self.world.committed_count + int(behind * share))
        self.world.committed_count = len(self.world.log)
        known = self.world.positions
        self.joins = {t: j for t, j in self.joins.items() if t in known}
        self.syncs = {t: s for t, s in self.syncs.items() if t in known}
        self.commits = {t: c for t, c in self.commits.items() if t in known}

    def visible(self, tickets: dict[int, Any]) -> list[int]:
        positions = self.world.positions
        return [t for t in tickets if positions.get(t, 1 << 60) <= self.world.committed_count]

    def see_answers(self) -> None:
        """Clients take what has become visible."""
        for ticket in self.visible(self.joins):
            group, instance = self.joins.pop(ticket)
            member = self.world.answers[ticket].member_id
            if member:
                self.members[group] = [*self.members[group], (member, instance)][-6:]
        for ticket in self.visible(self.syncs):
            group, generation, member = self.syncs.pop(ticket)
            answer = self.world.answers[ticket]
            if answer.error_code == ErrorCode.NONE:
                event("a member was told its assignment")
                self.told.setdefault((group, generation), set()).add(answer.assignment.split(b"/")[0])

    # -- what must hold

    @invariant()
    def one_assignment_per_generation(self) -> None:
        for key, sources in self.told.items():
            assert len(sources - {b""}) <= 1, f"{key}: {sources}"

    @invariant()
    def what_was_told_is_kept(self) -> None:
        newest: dict[tuple[str, int], int] = {}
        for ticket in self.visible(self.commits):
            group, partition, offset = self.commits[ticket]
            newest[group, partition] = max(offset, newest.get((group, partition), 0))
        for (group, partition), offset in newest.items():
            assert self.world.fetch(group, "t", partition).committed_offset >= offset

    @invariant()
    def hard_state_is_the_replay_of_the_log(self) -> None:
        last = dict(self.world.log)
        offsets, groups = {}, {}
        for key, value in last.items():
            record = decode_event(key, value)
            if isinstance(record, OffsetCommitted) and record.committed is not None:
                offsets[record.group_id, record.topic, record.partition] = record.committed
            elif isinstance(record, GroupStored) and record.metadata is not None:
                groups[record.group_id] = record.metadata
        shard = self.world.shard
        assert shard.metadata == groups
        assert offsets == {
            (group, topic, partition): committed
            for group, topics in shard.offsets.groups.items()
            for topic, partitions in topics.items()
            for partition, committed in partitions.items()
        }

    @invariant()
    def every_ticket_is_held_once_or_answered(self) -> None:
        held = [
            ticket
            for group in self.world.shard.groups.values()
            for member in group.members.values()
            for ticket in (member.join_ticket, member.sync_ticket)
            if ticket is not None
        ]
        assert len(held) == len(set(held))
        assert not set(held) & self.world.answers.keys()
        waiting = {t for t in (*self.joins, *self.syncs) if t not in self.world.answers}
        assert waiting == set(held) & waiting


TestGroups = Groups.TestCase
TestGroups.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
