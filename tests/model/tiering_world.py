"""A seeded world for the tier's protocol: production deciding code, simulated stores, leaders that crash and linger.

One partition. Leaders carry out plans in steps; between any two steps anything may happen: a crash, a new leader
while the old one goes on as a zombie, a commit whose outcome is unknown and that is applied later or never, an upload
that fails half-way, retention, DeleteRecords. Roll points differ from leader to leader.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field

from tiering.catalog import Catalog
from tiering.keys import SegmentName
from tiering.lifecycle import Attempts, Named
from tiering.model import MetaObject, SegmentEntry, TierHead
from tiering.pages import Pages, move_to_page
from tiering.planner import (
    AdvanceStart,
    CopySegment,
    DeleteObjects,
    DeleteStale,
    Facts,
    LocalSegment,
    Policy,
    WritePage,
    plan,
)

GRACE_MS = 500
SEGMENT_BYTES = 100


class Unknown(Exception):
    """The commit was sent, and no answer came."""


class Refused(Exception):
    """The comparison failed."""


@dataclass
class Delayed:
    """A commit still under way: it is applied if its comparisons hold when it arrives."""

    leader_epoch: int
    revision: int
    head: TierHead


@dataclass
class World:
    rng: random.Random
    now_ms: int = 0
    log_end: int = 0
    leader_epoch: int = 1
    head: TierHead = field(default_factory=TierHead.empty)
    revision: int = 1
    objects: set[SegmentName] = field(default_factory=set)
    indexes: dict[MetaObject, Pages] = field(default_factory=dict)
    pages: set[MetaObject] = field(default_factory=set)
    delayed: list[Delayed] = field(default_factory=list)
    leaders: list[Leader] = field(default_factory=list)
    uuids: int = 0
    retention_bytes: int = 3_000
    unrest: float = 1.0
    """Scales how often leaders change and starts jump."""

    def uuid(self) -> bytes:
        self.uuids += 1
        return self.uuids.to_bytes(16, "big")

    def apply(self, change: Delayed) -> bool:
        """The one transaction: the leader's epoch and the head are those it was made from."""
        if (change.leader_epoch, change.revision) != (self.leader_epoch, self.revision):
            return False
        self.head = change.head
        self.revision += 1
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
        """A linearizable read of the head, then of its pages; an index that is gone by then is read again."""
        ref = self.head.page_index
        pages = Pages()
        if ref is not None:
            pages = self.indexes[ref.name]
            rows = tuple(row for row in pages.rows if row.end_offset > self.head.removed_end)
            assert all(row.name in self.pages for row in rows), "I13: a page that the head needs is gone"
        return self.head, self.revision, pages

    def check(self) -> None:
        head, _, pages = self.read()
        head.check()
        catalog = Catalog(head, pages.columns)
        end = head.start
        for entry in catalog:
            assert name_of(entry) in self.objects, f"I13: the object of {entry.base_offset} is gone"
            assert entry.base_offset <= end, "I12: a hole"
            end = entry.end_offset
        assert end == head.end, "I12: the live entries do not reach the tiered end"
        for entry in catalog.retired(head.start):
            retired_ms = head.retired_ms_of(entry.end_offset)
            assert retired_ms is not None
            if self.now_ms < retired_ms + GRACE_MS:
                assert name_of(entry) in self.objects, "deleted within the grace"

    def referenced(self) -> set[SegmentName]:
        head, _, pages = self.read()
        catalog = Catalog(head, pages.columns)
        return {name_of(e) for e in (*catalog, *catalog.retired(head.start))}


def name_of(entry: SegmentEntry) -> SegmentName:
    return SegmentName(entry.base_offset, entry.end_offset, entry.leader_epoch, entry.uuid)


class Leader:
    """One broker's leadership of one epoch: a generator that yields wherever something else may happen."""

    def __init__(self, world: World, attempts: type[Attempts] = Attempts) -> None:
        self.world = world
        self.epoch = world.leader_epoch
        self.attempts = attempts(self.epoch)
        self.rolls = world.rng.randint(3, 9)
        self.head, self.revision, self.pages = world.read()
        self.steps = self.run()

    def reload(self) -> None:
        self.head, self.revision, self.pages = self.world.read()

    def commit(self, head: TierHead, pages: Pages | None = None) -> None:
        if head is self.head:
            return
        self.world.commit(self.epoch, self.revision, head)
        self.head, self.revision = head, self.revision + 1
        self.pages = Pages() if head.page_index is None else pages or self.pages

    def sealed(self) -> list[LocalSegment]:
        ends = range(self.rolls, self.world.log_end, self.rolls)
        return [LocalSegment(end - self.rolls, end, SEGMENT_BYTES) for end in ends]

    def run(self) -> Generator[None, None, None]:
        swept = False
        while True:
            try:
                if self.world.rng.random() < 0.1:
                    yield from self.sweep()  # a zombie, too, whose turns are all refused
                yield from self.turn()
                if not swept:
                    yield from self.sweep()
                    swept = True
            except (Unknown, Refused):
                yield
                self.reload()
            yield

    def turn(self) -> Generator[None, None, None]:
        if self.world.rng.random() < 0.5:
            yield from self.settle()
        catalog = Catalog(self.head, self.pages.columns)
        facts = Facts(catalog, self.pages, self.sealed(), self.world.log_end, head_copied_sequence=10**9)
        policy = Policy(retention_bytes=self.world.retention_bytes, delete_grace_ms=GRACE_MS)
        before = self.head
        for action in plan(facts, policy, self.world.now_ms):
            yield
            match action:
                case AdvanceStart(offset, _):
                    self.commit(self.head.with_start(offset, self.world.now_ms))
                case CopySegment():
                    yield from self.copy(action)
                case WritePage(moved_count):
                    yield from self.write_page(moved_count)
                case DeleteObjects():
                    for entry in action.entries:
                        self.world.objects.discard(name_of(entry))
                    yield
                    self.commit(self.head.with_retired_removed(action.end_offset, self.world.now_ms))
                    yield
                    self.world.pages -= set(action.pages)
                case DeleteStale(names):
                    self.commit(self.head.with_stale_removed(names))
                    yield
                    self.world.pages -= names
                    for name in names:
                        self.world.indexes.pop(name, None)
            if self.head is not before:
                break
        yield from self.settle()

    def settle(self) -> Generator[None, None, None]:
        if len(self.attempts):
            self.reload()
            orphans = self.attempts.settle(Named.of(self.head, self.pages))
            yield
            self.world.objects -= set(orphans)
            self.attempts.deleted(name.uuid for name in orphans)

    def copy(self, action: CopySegment) -> Generator[None, None, None]:
        name = SegmentName(action.base_offset, action.end_offset, self.epoch, self.world.uuid())
        self.attempts.copying(name)
        yield
        if self.world.rng.random() < 0.1:
            if self.world.rng.random() < 0.5:
                self.world.objects.add(name)  # it stands, and its answer was lost
            self.attempts.failed(name.uuid)
            raise Refused
        self.world.objects.add(name)
        yield
        entry = SegmentEntry(*name[:4], SEGMENT_BYTES, SEGMENT_BYTES, -1, -1, self.world.now_ms, self.epoch)
        self.attempts.committing(name.uuid, self.head.sequence)
        try:
            if self.head.end != entry.base_offset:
                raise Refused  # the start moved past the end meanwhile
            self.commit(self.head.with_committed(entry))
        except Unknown:
            self.attempts.unknown(name.uuid)
            raise
        except Refused:
            self.attempts.failed(name.uuid)
            raise
        self.attempts.committed(name.uuid)

    def write_page(self, moved_count: int) -> Generator[None, None, None]:
        names = [MetaObject(self.head.sequence, self.epoch, self.world.uuid()) for _ in range(2)]
        move = move_to_page(self.head, self.pages, moved_count, names[0], names[1])
        self.world.pages.add(names[0])
        yield
        self.world.indexes[names[1]] = move.pages
        yield
        head = self.head.with_page(move.index_ref, moved_count, move.replaced, self.world.now_ms)
        self.commit(head, move.pages)

    def sweep(self) -> Generator[None, None, None]:
        listed = sorted(self.world.objects)
        yield
        self.reload()
        orphans = self.attempts.sweep(listed, Named.of(self.head, self.pages))
        yield
        self.world.objects -= set(orphans)


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
        next(rng.choice(world.leaders).steps)
        world.check()
    settle(world, attempts)
    return world


def disturb(world: World, attempts: type[Attempts]) -> None:
    rng = world.rng
    world.now_ms += rng.choice([0, 1, 20, 200])
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
    """The disturbances end: delayed commits arrive, one leader remains, and the bucket holds what the head names."""
    for change in world.delayed:
        world.apply(change)
    world.delayed.clear()
    world.leader_epoch += 1
    world.leaders = [Leader(world, attempts)]
    certain = random.Random(0)
    certain.random = lambda: 1.0  # type: ignore[method-assign]
    world.rng = certain
    for _ in range(400):
        world.now_ms += GRACE_MS
        next(world.leaders[0].steps)
        world.check()
    strays = world.objects - world.referenced()
    assert all(name.leader_epoch == world.leader_epoch for name in strays), "orphans remain"
    assert len(strays) <= 1, "more than the copy under way"
