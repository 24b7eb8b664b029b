"""Many cold readers through one small memory: hardly a byte is fetched twice, in large ranges, and nobody starves.

The figures do not depend on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.patience import PATIENT_S
from tests.unit.tiering.many_partitions import MIB, Consumed, ManyPartitions
from tiering.objects.delayed import DelayedStore
from tiering.objects.port import Buffer
from tiering.objects.wrapping import WrappedStore
from tiering.reading.footers import Footers
from tiering.reading.gets import IsAhead, RangedGets
from tiering.reading.holding import Reader
from tiering.reading.reader import VIEW_SHARE, RemoteReader, TierRead

PARTITIONS = 24
BUDGET_BYTES = 64 * MIB
GIB = 1 << 30


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ManyPartitions:
    return asyncio.run(ManyPartitions.make(tmp_path_factory.mktemp("world"), PARTITIONS, 1, 48 * MIB))


def reader_of(world: ManyPartitions, cache_bytes: int = BUDGET_BYTES) -> RemoteReader:
    return RemoteReader(DelayedStore(world.store, get_delay_ms=2), cache_bytes=cache_bytes)


async def all_of(*consumers: Coroutine[Any, Any, Consumed]) -> list[Consumed]:
    async with asyncio.timeout(PATIENT_S):
        return await asyncio.gather(*consumers)


async def test_a_hundred_readers_of_24_partitions(world: ManyPartitions) -> None:
    reader, rng = reader_of(world), random.Random(1)
    starts = world.bases[: len(world.bases) // 2]
    await all_of(
        *(world.consume(reader, n % PARTITIONS, rng.choice(starts), f"reader {n}") for n in range(100))
    )
    served = reader.served_bytes
    assert reader.stats.fetched_bytes <= 1.1 * served
    assert reader.stats.get_count / served * GIB <= 300
    assert reader.cached_bytes <= BUDGET_BYTES
    await reader.close()


async def test_24_readers_of_24_partitions(world: ManyPartitions) -> None:
    reader = reader_of(world, 32 * MIB)
    starts = world.bases[len(world.bases) // 2 :: 7]
    got = await all_of(
        *(world.consume(reader, n, starts[n], f"reader {n}", read_bytes=300_000) for n in range(PARTITIONS))
    )
    assert all(one.next_offset == world.partitions[0].catalog.end for one in got)
    assert reader.stats.fetched_bytes <= 1.1 * reader.served_bytes
    await reader.close()


async def test_ten_readers_of_one_range_share_its_chunks(world: ManyPartitions) -> None:
    reader, rng = reader_of(world), random.Random(2)
    pauses_s = [rng.random() * 0.004 for _ in range(10)]
    await all_of(
        *(world.consume(reader, 0, 0, f"reader {n}", pause_s=pause_s) for n, pause_s in enumerate(pauses_s))
    )
    assert reader.stats.fetched_bytes <= 0.2 * reader.served_bytes
    assert reader.stats.get_count / reader.served_bytes * GIB <= 30
    await reader.close()


@pytest.mark.parametrize(
    ("delay_ms", "pause_s", "gets_max"),
    [(50, 0.0, 6 + -(-48 // 8)), (2, 0.005, 14)],
    ids=["it has to wait", "it takes its time"],
)
async def test_one_reader_is_given_large_ranges_ahead_of_it(
    world: ManyPartitions, delay_ms: int, pause_s: float, gets_max: int
) -> None:
    """A footer, a first range, and some of half the size; of one that never waits the window does not grow to the full."""
    reader = RemoteReader(DelayedStore(world.store, get_delay_ms=delay_ms), cache_bytes=128 * MIB)
    await world.consume(reader, 0, 0, "reader", pause_s=pause_s)
    assert reader.stats.fetched_bytes <= 1.1 * reader.served_bytes
    assert reader.stats.get_count <= gets_max
    assert reader.cache_stats.demand_count <= 3
    await reader.close()


async def test_a_reader_that_takes_its_time_holds_up_nobody(world: ManyPartitions) -> None:
    """All memory is for four ranges; sixteen readers pause between their reads."""
    reader, start = reader_of(world, 4 * MIB), world.bases[-200]
    got = await all_of(
        *(
            world.consume(reader, n, start, f"reader {n}", pause_s=0.005, read_bytes=200_000)
            for n in range(16)
        )
    )
    assert min(one.size_bytes for one in got) >= 3_000_000
    assert reader.cached_bytes <= 4 * MIB
    await reader.close()


async def test_a_read_that_waits_is_answered_at_its_deadline_and_keeps_its_place(
    world: ManyPartitions,
) -> None:
    reader = reader_of(world, MIB)
    loop = asyncio.get_running_loop()
    first, second = Reader("first", "first"), Reader("second", 2)
    read = await reader.read(world.partitions[0], 0, 100_000, deadline=loop.time() + PATIENT_S, reader=first)
    read.accept()
    late = await reader.read(world.partitions[1], 0, MIB, deadline=loop.time() + 0.01, reader=second)
    assert (late.size_bytes, late.next_offset) == (0, 0)
    assert reader.waiting_count == 1

    def ask(who: Reader) -> asyncio.Task[TierRead]:
        deadline = loop.time() + PATIENT_S
        return asyncio.create_task(reader.read(world.partitions[1], 0, MIB, deadline=deadline, reader=who))

    third = ask(Reader("third", 3))
    await asyncio.sleep(0)
    again = ask(second)
    going_on = asyncio.create_task(world.consume(reader, 0, read.next_offset, "first"))
    assert (await again).size_bytes
    assert not third.done(), "who came later waits"
    for task in (third, going_on):
        task.cancel()
    await asyncio.gather(third, going_on, return_exceptions=True)
    await reader.close()


class Ranges(WrappedStore):
    """Gives each range a memory of its own, as distant stores do."""

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        return bytes(await self.inner.get_range(key, start, end))


@pytest.mark.parametrize("is_tight", [False, True])
async def test_a_reply_keeps_little_in_memory_that_it_does_not_show(
    world: ManyPartitions, is_tight: bool
) -> None:
    reader = RemoteReader(Ranges(world.store), cache_bytes=(16 if is_tight else 64) * MIB)
    for partition in (5, 4, 3, 2, 1, 0) if is_tight else (0,):
        await world.consume(reader, partition, 0, f"reader {partition}", size_bytes=4 * MIB)

    async def kept(offset: int, size_bytes: int) -> tuple[TierRead, list[float]]:
        """How much each view keeps in memory, by what it shows."""
        deadline, who = asyncio.get_running_loop().time() + PATIENT_S, Reader("r", "r")
        read = await reader.read(world.partitions[0], offset, size_bytes, deadline=deadline, reader=who)
        assert reader._cache.admission.is_tight == is_tight
        return read, [memoryview(view.obj).nbytes / len(view) for view in read.buffers]

    read, shares = await kept(0, 90_000)
    assert shares == [1.0], "a small part of its chunk"
    read.accept()
    read, shares = await kept(read.next_offset, 500_000)
    (share,) = shares
    assert 1.5 < share <= VIEW_SHARE, "it is in the middle of the chunk, which counts as its own"
    read.accept()
    deadline = asyncio.get_running_loop().time() + PATIENT_S
    await reader.read(world.partitions[0], world.bases[100], 1, deadline=deadline, reader=Reader("next", 1))
    read, shares = await kept(read.next_offset, 2 * MIB)
    left, here = shares
    assert (left == 1.0) == is_tight, "the rest of a chunk that may soon have to go"
    assert 1 < here <= VIEW_SHARE
    await reader.close()


async def test_while_others_wait_a_reply_keeps_no_chunk_in_memory(world: ManyPartitions) -> None:
    reader = reader_of(world, MIB)
    loop = asyncio.get_running_loop()

    async def ask(who: str, partition: int, offset: int, wait_s: float) -> TierRead:
        deadline = loop.time() + wait_s
        read = await reader.read(
            world.partitions[partition], offset, 100_000, deadline=deadline, reader=Reader(who, who)
        )
        read.accept()
        return read

    alone = await ask("first", 0, 0, PATIENT_S)
    await ask("second", 1, 0, 0.01)
    assert reader.waiting_count == 1
    read = await ask("first", 0, alone.next_offset, PATIENT_S)
    assert read.size_bytes
    assert all(len(buffer.obj) == len(buffer) for buffer in read.buffers)  # type: ignore[arg-type]
    await reader.close()


async def test_beyond_the_bound_of_streams_a_read_is_answered_and_refuses_nothing(
    world: ManyPartitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiering.reading.streams.STREAMS_MAX", 3)
    reader = reader_of(world)
    loop = asyncio.get_running_loop()
    for n in range(3):
        assert reader.read_now(world.partitions[n], 0, MIB, reader=Reader("c", n)) is None
    read = await reader.read(world.partitions[3], 0, MIB, deadline=loop.time() + 0.01, reader=Reader("c", 3))
    assert read.size_bytes == 0
    assert len(reader._cache.admission.streams) == 3
    monkeypatch.setattr("tiering.reading.holding.IDLE_S", 0.0)
    read = await reader.read(
        world.partitions[3], 0, MIB, deadline=loop.time() + PATIENT_S, reader=Reader("c", 3)
    )
    assert read.size_bytes
    await reader.close()


async def test_footers_keep_to_their_budget(world: ManyPartitions) -> None:
    entry = world.partitions[0].catalog.last
    assert entry is not None
    budget_bytes = 4 * (entry.object_bytes - entry.data_bytes)
    reader = RemoteReader(world.store, footer_cache_bytes=budget_bytes)
    for partition in world.partitions:
        last = partition.catalog.last
        assert last is not None
        await reader.open_footer(partition.keys, last)
        footers = reader._footers
        kept = [*footers._ready.values(), *footers._checks.values()]
        assert sum(footer.memory_bytes for footer in kept) <= budget_bytes
    assert reader.stats.get_count == PARTITIONS
    await reader.close()


async def test_a_footer_that_is_loaded_again_counts_once(world: ManyPartitions) -> None:
    reader = RemoteReader(world.store)
    footers, partition = reader._footers, world.partitions[0]
    entry = partition.catalog.last
    assert entry is not None
    footer = await reader.open_footer(partition.keys, entry)
    await footers.load(partition.keys, entry)
    assert footers._ready_bytes == footer.memory_bytes
    footers._checks.clear()
    assert footers.checks(entry) is not None, "the whole footer is good for it too"
    await reader.close()


async def test_a_footer_that_is_demanded_meanwhile_does_not_wait_with_read_ahead(
    world: ManyPartitions,
) -> None:
    gate = asyncio.Event()
    asked: list[IsAhead] = []

    class Turns(RangedGets):
        async def get_range(self, key: str, start: int, end: int, *, is_ahead: IsAhead) -> memoryview:
            asked.append(is_ahead)
            await gate.wait()
            return await super().get_range(key, start, end, is_ahead=is_ahead)

    footers = Footers(Turns(world.store), 1 << 20)
    partition = world.partitions[0]
    entry = partition.catalog.last
    assert entry is not None
    loading = footers.load(partition.keys, entry, lambda: True)
    await asyncio.sleep(0)
    assert asked[0]()
    assert footers.load(partition.keys, entry) is loading
    assert not asked[0]()
    gate.set()
    await loading
    await footers.close()


async def test_a_footer_that_had_to_go_is_not_fetched_for_each_chunk(world: ManyPartitions) -> None:
    """24 readers, and room for the indexes of six of their segments."""
    entry = world.partitions[0].catalog.last
    assert entry is not None
    reader = RemoteReader(
        world.store,
        cache_bytes=32 * MIB,
        footer_cache_bytes=8 * (entry.object_bytes - entry.data_bytes),
    )
    start = world.bases[len(world.bases) // 2]
    await all_of(*(world.consume(reader, n, start, f"reader {n}") for n in range(PARTITIONS)))
    chunks = reader.cache_stats.demand_count + reader.cache_stats.read_ahead_count
    assert chunks >= 8 * PARTITIONS
    assert reader.stats.get_count - chunks == PARTITIONS
    await reader.close()
