"""A seeded world for the tier's protocol: production deciding code, simulated stores, leaders that crash and linger.

One partition. Leaders carry out plans in steps; between any two steps anything may happen: a crash, a new leader
while the old one goes on as a zombie, a commit whose outcome is unknown and that is applied later or never, whatever
``tiering_bucket`` does, retention, DeleteRecords. Roll points differ from leader to leader.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.model.tiering_bucket import KEYS, TierBucket
from tiering.catalog import Catalog, EntryColumns
from tiering.keys import SegmentName
from tiering.lifecycle import Attempts, Named, ObjectName
from tiering.model import STALE_OBJECTS_MAX, MetaObject, SegmentEntry, TierHead
from tiering.pages import Pages, move_to_page
from tiering.planner import (
    AdvanceStart,
    CopyHead,
    CopySegment,
    DeleteObjects,
    DeleteStale,
    Facts,
    LocalSegment,
    Policy,
    WritePage,
    plan,
)
from tiering.sweeping.sweeps import Sweeps, Waiting

GRACE_MS = 500
SEGMENT_BYTES = 100
Steps = Generator[None, None, None]


class Unknown(Exception):
    """The commit was sent, and no answer came."""


class Refused(Exception):
    """The comparison failed."""


class Unanswered(Exception):
    """The object store did not answer a put."""


@dataclass
class Delayed:
    """A commit still under way: it is applied if its comparisons hold when it arrives."""

    leader_epoch: int
    revision: int
    head: TierHead


def fail(why: str) -> None:
    raise AssertionError(why)


@dataclass
class World:
    rng: random.Random
    now_ms: int = 0
    log_end: int = 0
    leader_epoch: int = 1
    head: TierHead = field(default_factory=TierHead.empty)
    revision: int = 1
    bucket: TierBucket[None] = field(init=False)
    delayed: list[Delayed] = field(default_factory=list)
    leaders: list[Leader] = field(default_factory=list)
    uuids: int = 0
    retention_bytes: int = 3_000
    _checked: tuple[int, int] = (0, 0)
    unrest: float = 1.0
    """Scales how often leaders change and starts jump."""

    def __post_init__(self) -> None:
        self.bucket = TierBucket(self.rng, fail)

    def uuid(self) -> bytes:
        self.uuids += 1
        return self.uuids.to_bytes(16, "big")

    def content(self, name: SegmentName) -> None:
        """Names alone are looked at."""

    def apply(self, change: Delayed) -> bool:
        """The one transaction: the leader's epoch and the head are those it was made from."""
        if (change.leader_epoch, change.revision) != (self.leader_epoch, self.revision):
            return False
        self.head = change.head
        self.revision += 1
        self.bucket.on_named(change.head.tail)
        return True

    def commit(self, leader_epoch: int, revision: int, head: TierHead) -> None:
        change = Delayed(leader_epoch, revision, head)
        fate = self.rng.random()
        if fate < 0.1:
            self.delayed.append(change)
            raise Unknown
        if fate < 0.15:
            self.apply(change)
            raise Unknown
        if not self.apply(change):
            raise Refused

    def read(self) -> tuple[TierHead, int, Pages]:
        """A linearizable read of the head, then of its pages."""
        return self.head, self.revision, self.bucket.load(self.head)

    def check(self) -> None:
        if self._checked == (self.revision, self.bucket.version):
            return
        self._checked = (self.revision, self.bucket.version)
        head, _, pages = self.read()
        head.check()
        self.bucket.check(head, self.now_ms, GRACE_MS)
        catalog = Catalog(head, pages.columns)
        end = head.start
        for entry in catalog:
            assert entry.base_offset <= end, "I12: a hole"
            end = entry.end_offset
        assert end == head.end, "I12: the live entries do not reach the tiered end"


def name_of(entry: SegmentEntry) -> SegmentName:
    return SegmentName(entry.base_offset, entry.end_offset, entry.leader_epoch, entry.uuid)


class Leader:
    """One broker's leadership of one epoch: a generator that yields wherever something else may happen. What
    ``broker.offload.work`` and ``deletes`` do, step for step."""

    world: Any
    page_entries_max = 12
    page_at_entries = 8
    tail_kept_entries = 3

    def __init__(self, world: World, attempts: type[Attempts] = Attempts) -> None:
        self.world = world
        self.bucket: TierBucket[Any] = world.bucket
        self.epoch = world.leader_epoch
        self.attempts = attempts(self.epoch)
        self.sweeps = Sweeps(retry_min_ms=500, retry_max_ms=4_000, again_ms=2_000, idle_ms=6_000)
        self.rolls = world.rng.randint(3, 9)
        self.head, self.revision, self.pages = world.read()
        self.head_copied_sequence = -1
        self.head_copied_ms = -(10**6)
        self.steps = self.run()

    def reload(self) -> None:
        self.head, self.revision, self.pages = self.world.read()

    @property
    def named(self) -> Named:
        return Named.of(self.head, self.pages)

    def commit(self, head: TierHead, pages: Pages | None = None) -> None:
        if head is self.head:
            return
        self.world.commit(self.epoch, self.revision, head)
        self.head, self.revision = head, self.revision + 1
        self.pages = Pages() if head.page_index is None else pages or self.pages

    def commit_written(
        self, names: list[ObjectName], change: Callable[[TierHead], TierHead], pages: Pages | None = None
    ) -> Steps:
        """A DeleteRecords may have its turn first: which head the commit is made from is noted in the same step."""
        yield from self.wait_for_turn(names)
        try:
            head = change(self.head)
            self.note(names)
            self.commit(head, pages)
        except Refused:
            for name in names:
                self.attempts.failed(name.uuid)
            raise
        except Unknown:
            for name in names:
                self.attempts.interrupted(name.uuid)
            raise
        for name in names:
            self.attempts.committed(name.uuid)

    def wait_for_turn(self, names: Iterable[ObjectName]) -> Steps:
        yield
        if self.world.rng.random() < 0.1 and self.head.start < self.world.log_end:
            try:
                self.commit(self.head.with_start(self.head.start + 1, self.world.now_ms))
            except (Unknown, Refused):
                self.reload()

    def note(self, names: Iterable[ObjectName]) -> None:
        for name in names:
            self.attempts.committing(name.uuid, self.head.sequence)

    def remove(self, names: Iterable[ObjectName | str]) -> None:
        if self.bucket.delete(names):
            self.sweeps.wanted(self.world.now_ms)

    def sealed(self) -> list[LocalSegment]:
        """From a while before the tiered end on."""
        first = max(self.head.end // self.rolls - 2, 0) * self.rolls
        ends = range(first + self.rolls, self.world.log_end, self.rolls)
        return [LocalSegment(end - self.rolls, end, SEGMENT_BYTES) for end in ends]

    def policy(self) -> Policy:
        return Policy(
            retention_bytes=self.world.retention_bytes,
            delete_grace_ms=GRACE_MS,
            head_copy_interval_ms=300,
            page_at_entries=self.page_at_entries,
            tail_kept_entries=self.tail_kept_entries,
            stale_grace_ms=GRACE_MS,
        )

    def run(self) -> Steps:
        while True:
            try:
                if self.pages.lost and self.world.rng.random() < 0.2:
                    self.reload()
                yield from self.turn()
                if self.sweeps.is_due(self.world.now_ms) or self.world.rng.random() < 0.1:
                    yield from self.sweep()  # a zombie, too, whose turns are all refused
            except (Unknown, Refused):
                yield
                self.reload()
            except Unanswered:
                yield
            yield

    def turn(self) -> Steps:
        if self.world.rng.random() < 0.5:
            yield from self.settle()
        facts = Facts(
            Catalog(self.head, self.pages.columns),
            self.pages,
            self.sealed(),
            self.world.log_end,
            head_copied_sequence=self.head_copied_sequence,
            head_copied_ms=self.head_copied_ms,
        )
        before = self.head
        for action in plan(facts, self.policy(), self.world.now_ms):
            yield
            if self.head is not before:
                break  # a DeleteRecords went first, or has read the head again: the plan was for another head
            match action:
                case AdvanceStart(offset, _):
                    self.commit(self.head.with_start(offset, self.world.now_ms))
                case CopySegment():
                    yield from self.copy(action)
                case WritePage(moved_count):
                    yield from self.write_page(moved_count)
                case DeleteObjects():
                    yield from self.delete(action)
                case DeleteStale(names):
                    self.commit(self.head.with_stale_removed(names))
                    yield
                    self.remove(names)
                case CopyHead():
                    yield from self.copy_head()
        yield from self.settle()

    def delete(self, action: DeleteObjects) -> Steps:
        self.remove(name_of(entry) for entry in action.entries)
        yield
        self.commit(self.head.with_retired_removed(action.end_offset, self.world.now_ms))
        yield
        self.remove(action.pages)

    def copy_head(self) -> Steps:
        head = self.head
        self.head_copied_ms = self.world.now_ms
        if not self.bucket.put_head(head):
            return
        replaced, self.head_copied_sequence = self.head_copied_sequence, head.sequence
        yield
        if 0 <= replaced < head.sequence:
            self.remove([KEYS.head_copy(replaced)])

    def settle(self) -> Steps:
        if len(self.attempts):
            self.reload()
            orphans = self.attempts.settle(self.named)
            yield
            self.attempts.deleted(name.uuid for name in orphans)
            self.remove(orphans)
            if orphans:
                self.sweeps.doubted(self.world.now_ms)

    def copy(self, action: CopySegment) -> Steps:
        name = SegmentName(action.base_offset, action.end_offset, self.epoch, self.world.uuid())
        self.attempts.copying(name)
        yield
        if not self.bucket.put_segment(name, self.world.content(name)):
            self.attempts.failed(name.uuid)
            raise Unanswered
        yield
        entry = SegmentEntry(*name[:4], *[SEGMENT_BYTES] * 3, -1, -1, self.world.now_ms, self.epoch)

        def change(head: TierHead) -> TierHead:
            if head.end != entry.base_offset:
                raise Refused  # the start moved past the end meanwhile
            return head.with_committed(entry)

        yield from self.commit_written([name], change)

    def write_page(self, moved_count: int) -> Steps:
        names: list[ObjectName] = [
            MetaObject(self.head.sequence, self.epoch, self.world.uuid()) for _ in range(2)
        ]
        page, index = names
        assert isinstance(page, MetaObject)
        assert isinstance(index, MetaObject)
        planned = self.head
        move = move_to_page(planned, self.pages, moved_count, page, index, self.page_entries_max)
        for name in names:
            self.attempts.copying(name)
        yield
        if not self.bucket.put_pages(move):
            for name in names:
                self.attempts.failed(name.uuid)
            raise Unanswered

        def change(head: TierHead) -> TierHead:
            if (head.page_index, head.tail[:moved_count]) != (planned.page_index, planned.tail[:moved_count]):
                raise Refused  # it was read again, and is another leader's
            return head.with_page(move.index_ref, moved_count, move.replaced, self.world.now_ms)

        yield from self.commit_written(names, change, move.pages)

    def sweep(self) -> Steps:
        waiting = Waiting()
        named = self.named
        listed = [name for name in self.bucket.names() if name not in named]
        copies = sorted(self.bucket.heads)
        yield
        if listed:
            self.reload()
            orphans = list(self.attempts.sweep(listed, self.named))
            if self.attempts.awaits_later_head(self.named):
                self.commit(self.head.renewed())
                yield
                self.reload()
                settled = [name for name in self.attempts.settle(self.named) if name in listed]
                self.attempts.deleted(name.uuid for name in settled)
                orphans += settled
            yield
            for _ in self.bucket.delete(orphans):
                waiting.add(SEGMENT_BYTES)
        for _ in self.bucket.delete(KEYS.older_head_copies(copies)):
            waiting.add(SEGMENT_BYTES)
        self.reload()  # a commit without an answer may have been made late
        if not copies or copies[-1] < KEYS.head_copy(max(self.head_copied_sequence, 0)):
            self.head_copied_sequence = -1
        self.sweeps.done(waiting, self.world.now_ms)


def run(
    seed: int,
    steps: int,
    attempts: type[Attempts] = Attempts,
    *,
    retention_bytes: int = 3_000,
    unrest: float = 1.0,
) -> World:
    """One life of the partition; asserts after every step, and that everything unreferenced vanishes at last."""
    rng = random.Random(seed)
    world = World(rng, retention_bytes=retention_bytes, unrest=unrest)
    world.leaders.append(Leader(world, attempts))
    for _ in range(steps):
        disturb(world, attempts)
        leader = rng.choice(world.leaders)
        for _ in range(rng.choice([1, 1, 5])):
            next(leader.steps)
            world.check()
    settle(world, attempts)
    return world


def disturb(world: World, attempts: type[Attempts]) -> None:
    rng = world.rng
    world.now_ms += rng.choice([0, 1, 20, 200])
    world.bucket.disturb(world.head)
    if world.log_end < world.head.end + 50:
        world.log_end += rng.choice([0, 0, 1, 7])
    if rng.random() < 0.02 * world.unrest:
        world.leader_epoch += 1
        survivors = [leader for leader in world.leaders[-2:] if rng.random() < 0.7]
        world.leaders = [*survivors, Leader(world, attempts)]
    if world.delayed and rng.random() < 0.1:
        world.apply(world.delayed.pop(rng.randrange(len(world.delayed))))
    if rng.random() < 0.005 * world.unrest and world.leaders[-1].epoch == world.leader_epoch:
        leader = world.leaders[-1]
        try:
            leader.commit(leader.head.with_start(rng.randint(0, world.log_end), world.now_ms))
        except (Unknown, Refused):
            leader.reload()


def settle(world: World, attempts: type[Attempts]) -> None:
    """The disturbances end. First the bucket goes on to refuse deletes: everything is copied all the same. Then it takes
    them: soon it holds what the head names."""
    for change in world.delayed:
        world.apply(change)
    world.delayed.clear()
    world.leader_epoch += 1
    world.bucket.calm()
    world.bucket.is_refusing = True
    (leader,) = world.leaders = [Leader(world, attempts)]
    certain = random.Random(0)
    certain.random = lambda: 1.0  # type: ignore[method-assign]
    world.rng = world.bucket.rng = certain
    world.log_end += (60 + world.uuids % 10) * leader.rolls  # to end in the middle of a page, mostly
    sealed_end = leader.sealed()[-1].end_offset
    for step in range(4_000):
        if step > 1_000 and world.head.end >= sealed_end:
            break
        world.now_ms += 50
        next(leader.steps)
        world.check()
    assert world.head.end >= sealed_end, f"copying stopped at {world.head.end} of {sealed_end}"
    assert len(world.head.stale) < STALE_OBJECTS_MAX
    due_end = world.head.removable_end(world.now_ms - 5_000, GRACE_MS)
    assert world.head.removed_end >= due_end, f"removing stopped at {world.head.removed_end} of {due_end}"
    world.bucket.is_refusing = False
    # Two uploads of its own that it had given up, and forgotten, arrive at last.
    world.bucket.segments[SegmentName(sealed_end, sealed_end + 1, leader.epoch, world.uuid())] = None
    page = MetaObject(world.head.sequence, leader.epoch, world.uuid())
    world.bucket.pages[page] = EntryColumns.of(())
    for step in range(400):
        world.now_ms += GRACE_MS
        next(leader.steps)
        world.check()
        if step % 25 == 24 and not world.bucket.remains(world.head):
            break
    world.bucket.check_clean(world.head)


def zombie_sweeps(attempts: type[Attempts]) -> None:
    """A deposed leader sweeps between its successor's upload and commit."""
    certain = random.Random(0)
    certain.random = lambda: 1.0  # type: ignore[method-assign]
    world = World(certain, log_end=100)
    zombie = Leader(world, attempts)
    world.leader_epoch += 1
    successor = Leader(world, attempts)
    while not world.bucket.segments:
        next(successor.steps)
    for _ in zombie.sweep():
        pass
    while not world.head.tail:
        next(successor.steps)
    world.check()
