"""Segments move down the ladder on a fast clock: where the plan says, once each, whatever is interrupted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.unit.offload.brokers import Running, World, next_offset, until
from tiering.errors import AccessDenied, Unavailable
from tiering.model import SegmentEntry
from tiering.objects.classes import S3_CLASSES, StorageClass
from tiering.objects.memory import MemoryStore
from tiering.objects.wrapping import Call, WrappedStore
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.offload.class_moves import MOVES_AT_ONCE, ClassMoves
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition
from tierlog.config.tiers import parse_tiers
from tierlog.errors import ErrorCode
from tierlog.records.records import Record, build_batch

R = TypeVar("R")
DAY_MS = 86_400_000
TIERS = "standard:30d,infrequent:1y,archive-instant:forever"
STANDARD, INFREQUENT, _, ARCHIVE = StorageClass


class Interrupting(WrappedStore):
    """Counts copies, and ends the call of one number: before it reaches the store, or behind it."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.copies: Counter[str] = Counter()
        self.calls = 0
        self.at = -1
        self.is_applied = False
        self.error: type[BaseException] = asyncio.CancelledError
        self.refused = ""
        self.copying = self.copying_max = 0

    async def _parts(self, call: Call, work: Callable[[], Awaitable[R]]) -> R:
        self.calls += 1
        if call.verb == self.refused:
            raise AccessDenied("refused", key=call.key)
        is_hit = self.calls == self.at
        if is_hit and not self.is_applied:
            raise self.error("interrupted")
        is_copy = call.verb == "copy"
        self.copying += is_copy
        self.copying_max = max(self.copying, self.copying_max)
        await asyncio.sleep(0)
        result = await work()
        self.copying -= is_copy
        self.copies[call.key] += is_copy
        if is_hit:
            raise self.error("interrupted")
        return result


class Clock:
    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return wall_clock_ms() + self.ahead_ms


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path, monkeypatch)
    world.objects = Interrupting(MemoryStore())  # type: ignore[assignment]
    monkeypatch.setattr("tierlog.broker.offload.service.class_names_of", lambda url: S3_CLASSES)
    monkeypatch.setattr("tiering.ladder.BILLED_BYTES_MIN", 0)
    yield world


def produce_now(partition: Partition, count: int) -> bytes:
    """Segments of two batches each."""
    written = b""
    now_ms = wall_clock_ms()
    for number in range(count):
        if number % 2 == 0:
            partition.log.roll(now_ms + number)
        batch = build_batch([Record(b"k", bytes([number % 251]) * 1_000, now_ms)])
        result = partition.append(memoryview(batch), False, now_ms)
        assert result.error is ErrorCode.NONE, result
        written += batch
    return written


def store_of(world: World) -> Interrupting:
    assert isinstance(world.objects, Interrupting)
    return world.objects


def on(running: Running, clock: Clock) -> None:
    running.tiering.work.class_moves._now_ms = clock
    running.tiering.work.class_moves._interval_ms = 20


@asynccontextmanager
async def moving(world: World, batches: int) -> AsyncIterator[tuple[Running, Clock, PartitionTier]]:
    """A broker, its fast clock, and a partition of so many batches whose sealed segments are all copied."""
    clock = Clock()
    async with world.broker() as running:
        on(running, clock)
        partition = await running.create(tierlog_tiers=TIERS)
        produce_now(partition, batches)
        yield running, clock, await running.tiered(partition)


def pass_over(tier: PartitionTier) -> None:
    tier.next_ladder_ms = tier.next_check_ms = tier.next_try_ms = 0


async def passes_until(tier: PartitionTier, condition: Callable[[], bool]) -> None:
    """Passes over the tier's entries one after the other."""

    def is_met() -> bool:
        if tier.job is None:
            pass_over(tier)
        return condition()

    await until(is_met)


def classes(world: World, tier: PartitionTier) -> set[tuple[int, int]]:
    """(what the entry says, what the object is) of all live segments."""
    objects = store_of(world).inner
    assert isinstance(objects, MemoryStore)
    return {
        (entry.storage_class, int(objects._objects[tier.keys.segment(entry)][0].storage_class or 0))
        for entry in tier.catalog
    }


def is_all(world: World, tier: PartitionTier, storage_class: StorageClass) -> Callable[[], bool]:
    return lambda: classes(world, tier) == {(int(storage_class), int(storage_class))}


async def test_segments_move_down_as_they_age_each_once(world: World) -> None:
    clock = Clock()
    async with world.broker() as running:
        on(running, clock)
        partition = await running.create(tierlog_tiers=TIERS)
        written = produce_now(partition, 220)  # Some in pages, some in the head's tail.
        tier = await running.tiered(partition)
        assert tier.head.page_index is not None
        await until(is_all(world, tier, STANDARD))
        count = len(tier.catalog)
        for days, expected, times in (
            (29, STANDARD, 0),
            (31, INFREQUENT, 1),
            (60, INFREQUENT, 1),
            (366, ARCHIVE, 2),
        ):
            clock.ahead_ms = days * DAY_MS
            pass_over(tier)
            await until(is_all(world, tier, expected))
            await until(lambda: tier.next_ladder_ms > clock())
            assert store_of(world).copies.total() == times * count
            assert set(store_of(world).copies.values()) <= {0, times}
        assert tier.counters.class_moves == 2 * count
        assert await running.read_all(partition, 0) == written
        since = {entry.class_since_ms for entry in tier.catalog}
        assert min(since) >= wall_clock_ms() + 365 * DAY_MS
    async with world.broker() as running:
        partition = await running.leading()
        tier = await running.tiered(partition)
        assert classes(world, tier) == {(ARCHIVE, ARCHIVE)}
        assert await running.read_all(partition, 0) == written


async def test_so_many_segments_move_at_once(world: World) -> None:
    clock = Clock()
    async with world.broker() as running:
        on(running, clock)
        tiers = []
        for name in ("a", "b"):
            partition = await running.create(name, tierlog_tiers=TIERS)
            produce_now(partition, 60)
            tiers.append(await running.tiered(partition))
        clock.ahead_ms = 31 * DAY_MS
        for tier in tiers:
            await passes_until(tier, is_all(world, tier, INFREQUENT))
        assert 1 < store_of(world).copying_max <= MOVES_AT_ONCE


@pytest.mark.parametrize(
    ("error", "is_applied", "calls"),
    [
        (asyncio.CancelledError, False, (1, 70, 239)),
        (asyncio.CancelledError, True, (2, 150, 230)),
        (Unavailable, False, (40, 133)),
        (Unavailable, True, (128, 220)),
        (AccessDenied, False, (30,)),
    ],
)
async def test_an_interrupted_move_is_taken_up_and_no_object_is_moved_twice(
    world: World, error: type[BaseException], is_applied: bool, calls: tuple[int, ...]
) -> None:
    clock = Clock()
    async with world.broker() as running:
        on(running, clock)
        partition = await running.create(tierlog_tiers=TIERS)
        written = produce_now(partition, 220)
        tier = await running.tiered(partition)
        await until(lambda: not len(tier.attempts))
        store = store_of(world)
        store.error, store.is_applied = error, is_applied
        now_in, target = STANDARD, INFREQUENT
        for at in calls:
            # There is only one way down: so one rung is used for all, by lifting the entries' classes up again.
            clock.ahead_ms = 31 * DAY_MS
            await lifted(world, running.tiering.work.class_moves, tier, now_in)
            store.copies.clear()
            store.at = store.calls + at
            await passes_until(tier, is_all(world, tier, target))
            assert set(store.copies.values()) <= {0, 1}, at
            store.at = -1
        assert await running.read_all(partition, 0) == written


async def lifted(
    world: World, class_moves: ClassMoves, tier: PartitionTier, storage_class: StorageClass
) -> None:
    """Objects and entries as if they had never moved."""
    objects = store_of(world).inner
    assert isinstance(objects, MemoryStore)
    while tier.job is not None:
        await asyncio.sleep(0.005)
    tier.next_try_ms = 2**62
    moves = []
    for entry in tier.catalog:
        key = tier.keys.segment(entry)
        info = await objects.head(key)
        info = await objects.copy(key, key, version=info.version, storage_class=storage_class)
        moves.append(entry._replace(storage_class=int(storage_class), version_hash=0))
    paged_end = tier.head.page_index.end_offset if tier.head.page_index else 0
    for part in (
        [e for e in moves if e.base_offset < paged_end],
        [e for e in moves if e.base_offset >= paged_end],
    ):
        if part:
            await class_moves._commit(tier, part)


async def test_a_bucket_that_keeps_versions_is_left_alone(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    inner = store_of(world).inner
    assert isinstance(inner, MemoryStore)
    inner.old_versions = "versioning of bucket b is on"
    async with world.broker() as running:
        on(running, clock)
        partition = await running.create(tierlog_tiers=TIERS)
        produce_now(partition, 20)
        tier = await running.tiered(partition)
        clock.ahead_ms = 400 * DAY_MS
        pass_over(tier)
        await until(lambda: tier.next_ladder_ms > clock())
        assert store_of(world).copies.total() == 0
        assert classes(world, tier) == {(STANDARD, STANDARD)}


async def test_a_ladder_that_is_altered_during_a_pass_is_followed_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with moving(world, 80) as (running, clock, tier):
        running.tiering.work.class_moves._interval_ms = 2**40
        partition, store = tier.partition, store_of(world)
        move = ClassMoves._move
        rungs = parse_tiers("standard:1d,archive-instant:forever")

        async def altering(moves: ClassMoves, *args: Any) -> SegmentEntry:
            if not partition.config.tierlog_tiers_before_minimum:
                config = replace(partition.config, tierlog_tiers=rungs, tierlog_tiers_before_minimum=True)
                partition.config = config
                running.tiering.offload.on_reconfigured(partition)
            return await move(moves, *args)

        monkeypatch.setattr(ClassMoves, "_move", altering)
        clock.ahead_ms = 31 * DAY_MS
        pass_over(tier)
        await until(is_all(world, tier, ARCHIVE))
        assert store.copies.total() > len(tier.catalog), "some had gone down the first ladder"


async def test_a_bucket_that_does_not_say_is_asked_again_in_the_next_pass(world: World) -> None:
    async with moving(world, 20) as (running, clock, tier):
        store_of(world).refused = "keeps_old_versions"
        clock.ahead_ms = 31 * DAY_MS
        await passes_until(tier, lambda: running.tiering.work.class_moves.hindrance is not None)
        assert store_of(world).copies.total() == 0
        store_of(world).refused = ""
        await passes_until(tier, is_all(world, tier, INFREQUENT))


async def test_objects_that_are_gone_are_passed_over_also_where_nothing_else_is_due(world: World) -> None:
    async with moving(world, 80) as (_running, clock, tier):
        gone = set(list(tier.catalog)[:20])  # More than a look takes.
        await store_of(world).inner.delete([tier.keys.segment(entry) for entry in gone])
        clock.ahead_ms = 31 * DAY_MS
        rest = {e.base_offset for e in tier.catalog} - {e.base_offset for e in gone}
        await passes_until(
            tier, lambda: {e.storage_class for e in tier.catalog if e.base_offset in rest} == {INFREQUENT}
        )
        assert tier.counters.class_move_errors >= 20


async def test_a_partition_is_copied_while_its_ladder_has_much_to_do(world: World) -> None:
    """And while the store refuses all moves."""
    async with moving(world, 120) as (running, clock, tier):
        store_of(world).refused = "copy"
        clock.ahead_ms = 31 * DAY_MS
        await passes_until(tier, lambda: tier.counters.class_move_errors > 0)
        produce_now(tier.partition, 20)
        await running.tiered(tier.partition)
        assert tier.failures == 0
        store_of(world).refused = ""
        await passes_until(tier, is_all(world, tier, INFREQUENT))


async def test_a_lost_page_holds_up_no_other_segment(world: World) -> None:
    clock = Clock()
    async with world.broker() as running:
        partition = await running.create(tierlog_tiers=TIERS)
        produce_now(partition, 220)
        tier = await running.tiered(partition)
        await store_of(world).inner.delete([tier.keys.page(tier.pages.rows[0].name)])
    async with world.broker() as running:
        on(running, clock)
        tier = await running.tiered(await running.leading())
        assert tier.pages.lost
        clock.ahead_ms = 31 * DAY_MS
        moved = {INFREQUENT}
        await passes_until(
            tier, lambda: {e.storage_class for e in tier.catalog if not e.is_lost_page} == moved
        )


async def test_an_object_that_somebody_else_wrote_is_left_alone(world: World) -> None:
    async with moving(world, 20) as (_running, clock, tier):
        first = tier.catalog.first
        assert first is not None
        key = tier.keys.segment(first)
        _, data = await store_of(world).inner.get(key)
        await store_of(world).inner.put(key, bytes(data), size_bytes=len(data))
        clock.ahead_ms = 31 * DAY_MS
        pass_over(tier)
        await until(lambda: tier.next_ladder_ms > clock())
        assert store_of(world).copies[key] == 0
        assert {e.storage_class for e in tier.catalog if e != first} == {INFREQUENT}


async def test_what_is_old_already_is_copied_into_its_class(world: World) -> None:
    clock = Clock()
    async with world.broker() as running:
        on(running, clock)
        running.tiering.work._now_ms = clock
        clock.ahead_ms = 40 * DAY_MS
        partition = await running.create(tierlog_tiers=TIERS)
        written = produce_now(partition, 10)
        tier = await running.tiered(partition)
        assert classes(world, tier) == {(INFREQUENT, INFREQUENT)}
        assert store_of(world).copies.total() == 0
        assert next_offset(written) == partition.log.log_end_offset


async def test_what_is_retired_while_it_moves_is_nobodys_concern(world: World) -> None:
    """DeleteRecords goes first between the copies and their commit: of some of the moved, then of all."""
    async with moving(world, 20) as (running, _clock, tier):
        while tier.job is not None:
            await asyncio.sleep(0.005)
        tier.next_try_ms = 2**62
        moved = [entry._replace(storage_class=int(INFREQUENT)) for entry in tier.catalog]
        await tier.commit(lambda head: head.with_start(moved[2].end_offset, wall_clock_ms()))
        await running.tiering.work.class_moves._commit(tier, moved[:6])
        assert [e.storage_class for e in tier.catalog] == [1] * 3 + [0] * (len(moved) - 6)
        sequence = tier.head.sequence
        await running.tiering.work.class_moves._commit(tier, moved[:3])
        assert tier.head.sequence == sequence, "nothing is left to say"
