"""Chunks in memory: memory before GETs, one flight per chunk, and what becomes of a load that fails or is given up."""

from __future__ import annotations

import asyncio

import pytest

from tests.patience import PATIENT_S
from tiering.catalog import Catalog
from tiering.errors import Unavailable
from tiering.keys import PartitionKeys
from tiering.model import SegmentEntry, TierHead
from tiering.reading.cache import TICK_S, ChunkCache
from tiering.reading.holding import Chunk, Reader, Stream, Want

MIB = 1 << 20
KEYS = PartitionKeys("cluster-1", bytes(range(16)), 3)


def entry(number: int, data_bytes: int = 64 * MIB) -> SegmentEntry:
    return SegmentEntry(
        0, data_bytes, 0, number.to_bytes(16, "big"), data_bytes, data_bytes + 1, 0, 0, 0, 0, 0, 0
    )


class Origin:
    """Chunks that arrive when the test says so; those of object 0 never do."""

    def __init__(self) -> None:
        self.asked: list[Chunk] = []
        self.cancelled: list[Chunk] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, chunk: Chunk) -> memoryview:
        self.asked.append(chunk)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(chunk)
            raise
        if chunk.entry.uuid == bytes(16):
            raise Unavailable("no")
        return memoryview(bytes(chunk.end - chunk.start))


def demand(
    cache: ChunkCache, number: int, reader: int = 0, position: int = 0, size: int = 100
) -> tuple[Stream, asyncio.Future[None]]:
    who = Reader("client", (number, reader))
    stream = cache.find(KEYS, who, position) or cache.open(KEYS, who, position)
    assert stream is not None
    stream.entry, stream.position, stream.is_located = entry(number), position, True
    return stream, cache.demand(Want(stream, entry(number), position, position, position + size))


async def arrival(
    cache: ChunkCache, number: int, reader: int = 0, position: int = 0, size: int = 100
) -> Stream:
    async with asyncio.timeout(PATIENT_S):
        while cache.piece(entry(number), position + size - 1) is None:
            stream, future = demand(cache, number, reader, position, size)
            await asyncio.wait((future,))
            future.result()
    return stream


async def test_one_flight_for_all_and_then_a_hit() -> None:
    origin = Origin()
    cache = ChunkCache(16 * MIB, MIB, origin.fetch)
    await asyncio.gather(*(arrival(cache, 1, reader) for reader in range(5)))
    assert len(origin.asked) == 1
    assert cache.stats.demand_count == 1
    assert cache.stats.hit_count >= 5
    await cache.close()


async def test_the_budget_bounds_what_is_ready_and_in_flight() -> None:
    origin = Origin()
    cache = ChunkCache(3 * MIB, MIB, origin.fetch)
    origin.gate.clear()
    streams = [asyncio.create_task(arrival(cache, number)) for number in range(1, 11)]
    await asyncio.sleep(0.001)
    assert len(origin.asked) == 3
    assert cache.admission.used_bytes == 3 * MIB
    assert len(cache.admission.queue) == 7
    origin.gate.set()
    for count, task in enumerate(streams):
        stream = await task
        assert cache.admission.used_bytes <= 3 * MIB
        assert len(origin.asked) <= count + 3
        cache.drop(stream)
    assert [chunk.entry.uuid[-1] for chunk in origin.asked] == list(range(1, 11)), "in order of arrival"
    assert cache.stats.wait_count == 7
    await cache.close()


async def test_a_failed_load_is_told_to_all_and_forgotten() -> None:
    origin = Origin()
    cache = ChunkCache(3 * MIB, MIB, origin.fetch)
    results = await asyncio.gather(arrival(cache, 0, 1), arrival(cache, 0, 2), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable, Unavailable]
    assert len(origin.asked) == 1
    assert cache.admission.used_bytes == 0
    await cache.close()


async def test_who_goes_away_leaves_the_load_alone_and_others_their_turn() -> None:
    origin = Origin()
    cache = ChunkCache(MIB, MIB, origin.fetch)
    origin.gate.clear()
    demand(cache, 1)
    waiting = [demand(cache, 2), demand(cache, 3)]
    await asyncio.sleep(0)
    cache.drop(waiting[0][0])
    assert waiting[0][1].done(), "it is told to look again"
    origin.gate.set()
    stream = await arrival(cache, 1)
    cache.drop(stream)
    await arrival(cache, 3)
    assert [chunk.entry.uuid[-1] for chunk in origin.asked] == [1, 3]
    await cache.close()


async def test_read_ahead_in_flight_is_given_up_for_demand() -> None:
    origin = Origin()
    cache = ChunkCache(4 * MIB, MIB, origin.fetch)
    stream = await arrival(cache, 1)
    origin.gate.clear()
    stream.window_bytes, stream.is_sequential = 4 * MIB, True
    cache.read_ahead(stream, Catalog(TierHead.empty().with_committed(entry(1))), 64 * MIB)
    await asyncio.sleep(0)
    assert len(origin.asked) == 4
    assert cache.stats.read_ahead_count == 3
    _, future = demand(cache, 2)
    await asyncio.sleep(0)
    assert origin.cancelled == [origin.asked[3]]
    assert len(origin.asked) == 5
    origin.gate.set()
    await asyncio.wait((future,))
    assert cache.admission.used_bytes == 4 * MIB
    await cache.close()


async def test_a_batch_larger_than_the_budget_passes_alone() -> None:
    origin = Origin()
    cache = ChunkCache(2 * MIB, MIB, origin.fetch)
    for number in (1, 2):
        cache.drop(await arrival(cache, number))
    stream = await arrival(cache, 3, size=5 * MIB)
    assert cache.admission.used_bytes == 2 * MIB
    cache.drop(stream)
    await arrival(cache, 4)
    assert cache.admission.used_bytes == MIB
    await cache.close()


async def test_idle_streams_are_found_without_anybody_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiering.reading.holding.IDLE_S", 2 * TICK_S)
    origin = Origin()
    cache = ChunkCache(MIB, MIB, origin.fetch)
    await arrival(cache, 1)
    stream, future = demand(cache, 2)
    stream.waiting_count = 1
    async with asyncio.timeout(PATIENT_S):
        await asyncio.wait((future,))
    assert len(origin.asked) == 2
    await cache.close()


async def test_close_cancels_what_is_in_flight() -> None:
    origin = Origin()
    cache = ChunkCache(2 * MIB, MIB, origin.fetch)
    origin.gate.clear()
    futures = [demand(cache, number)[1] for number in range(1, 5)]
    await asyncio.sleep(0)
    await cache.close()
    assert all(future.cancelled() for future in futures)
    assert len(origin.cancelled) == 2
    await asyncio.sleep(0)
    assert len(origin.asked) == 2, "nobody's turn came"
