"""Remote reads give the same bytes as local ones, at any offset and limit, and answer at their deadline."""

from __future__ import annotations

import asyncio
import gc
import random
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.unit.tiering.segments import KEYS, LocalLog, Tier, extend
from tiering.catalog import Catalog
from tiering.codec import AbortedTransaction
from tiering.errors import CorruptObject, NotFound
from tiering.model import TierHead
from tiering.objects.delayed import DelayedStore
from tiering.objects.memory import MemoryStore
from tiering.objects.port import Buffer
from tiering.objects.wrapping import WrappedStore
from tiering.reading.holding import Reader
from tiering.reading.lookups import RemoteLookups
from tiering.reading.reader import RemotePartition, RemoteReader

MIB = 1 << 20


def far() -> float:
    return asyncio.get_running_loop().time() + 30


async def tier_of(tmp_path: Path, seed: int, segments: int, batches: int, **sizes: object) -> Tier:
    rng = random.Random(seed)
    tier = Tier(MemoryStore(), tmp_path)
    for _ in range(segments):
        await tier.add(extend(tier.log, rng, batches, **sizes))  # type: ignore[arg-type]
    return tier


def expected(log: LocalLog, offset: int, max_bytes: int, got: bytes) -> None:
    """``got`` is a prefix of the local bytes in whole batches, within the limit save for the first batch."""
    whole = log.tail(offset)
    assert whole.startswith(got)
    first = next(b for b in log.batches if b.end_offset > offset)
    assert len(got) <= max(max_bytes, len(first.data))
    assert len(got) >= len(first.data)


@pytest.mark.parametrize("seed", range(6))
async def test_random_reads_equal_local_reads(tmp_path: Path, seed: int) -> None:
    tier = await tier_of(tmp_path, seed, 5, 60, payload_bytes=(10, 150_000))
    reader = RemoteReader(tier.store, chunk_bytes=MIB, cache_bytes=6 * MIB)
    rng = random.Random(seed + 100)
    for _ in range(60):
        offset = rng.randrange(tier.log.end_offset)
        max_bytes = rng.choice([1, 61, 5_000, 200_000, 3 * MIB, 20 * MIB])
        read = await reader.read(tier.partition, offset, max_bytes, deadline=far(), reader=Reader("r", 1))
        read.accept()
        got = b"".join(read.buffers)
        assert len(got) == read.size_bytes
        expected(tier.log, offset, max_bytes, got)
        end = next((b.base_offset for b in tier.log.batches if b.base_offset >= read.next_offset), None)
        assert end in (read.next_offset, None)
    await reader.close()


@pytest.mark.parametrize("max_bytes", [1, 40_000, MIB, 8 * MIB])
async def test_sequential_read_gives_every_byte_once(tmp_path: Path, max_bytes: int) -> None:
    tier = await tier_of(tmp_path, 7, 6, 150, payload_bytes=(10, 30_000))
    reader = RemoteReader(tier.store, chunk_bytes=MIB, cache_bytes=8 * MIB)
    offset, got = 0, []
    while offset < tier.head.end:
        read = await reader.read(tier.partition, offset, max_bytes, deadline=far())
        read.accept()
        assert read.size_bytes
        got.append(b"".join(read.buffers))
        offset = read.next_offset
    assert b"".join(got) == tier.log.tail(0)
    footers = sum(e.object_bytes - e.data_bytes for e in tier.head.tail)
    assert reader.stats.fetched_bytes == len(tier.log.tail(0)) + footers
    assert reader.served_bytes == len(tier.log.tail(0))
    await reader.close()


async def test_many_readers_of_one_partition_cause_one_get_per_chunk(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path, 8, 3, 100, payload_bytes=(10, 30_000))
    reader = RemoteReader(DelayedStore(tier.store, get_delay_ms=1), chunk_bytes=MIB, cache_bytes=16 * MIB)

    async def consume() -> bytes:
        offset, got = 0, b""
        while offset < tier.head.end:
            read = await reader.read(tier.partition, offset, 300_000, deadline=far())
            read.accept()
            got += b"".join(read.buffers)
            offset = read.next_offset
        return got

    for got in await asyncio.gather(*(consume() for _ in range(5))):
        assert got == tier.log.tail(0)
    assert reader.stats.fetched_bytes <= 1.1 * len(tier.log.tail(0))
    await reader.close()


async def test_batches_larger_than_chunks_and_cache(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path, 9, 2, 4, payload_bytes=(2 * MIB, 5 * MIB))
    reader = RemoteReader(tier.store, chunk_bytes=MIB, cache_bytes=2 * MIB)
    offset, got = 0, b""
    while offset < tier.head.end:
        read = await reader.read(tier.partition, offset, 100_000, deadline=far())
        read.accept()
        got += b"".join(read.buffers)
        offset = read.next_offset
    assert got == tier.log.tail(0)
    await reader.close()


async def test_without_min_one_batch_a_batch_that_does_not_fit_is_left_out(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path, 10, 1, 3, payload_bytes=(5_000, 6_000))
    reader = RemoteReader(tier.store)
    read = await reader.read(tier.partition, 0, 4_000, deadline=far(), min_one_batch=False)
    assert (read.size_bytes, read.next_offset) == (0, 0)
    await reader.close()


async def test_a_slow_store_gives_an_empty_answer_at_the_deadline_and_the_load_goes_on(
    tmp_path: Path,
) -> None:
    tier = await tier_of(tmp_path, 11, 1, 10)
    gate = asyncio.Event()

    class Gated(WrappedStore):
        async def get_range(self, key: str, start: int, end: int) -> Buffer:
            await gate.wait()
            return await self.inner.get_range(key, start, end)

    reader = RemoteReader(Gated(tier.store))
    loop = asyncio.get_running_loop()
    read = await reader.read(tier.partition, 0, MIB, deadline=loop.time() + 0.01)
    assert (read.buffers, read.next_offset) == ([], 0)
    assert reader.read_now(tier.partition, 0, MIB) is None
    gate.set()
    read = await reader.read(tier.partition, 0, MIB, deadline=far())
    assert b"".join(read.buffers) == tier.log.tail(0)
    assert reader.stats.get_count == 2
    assert reader.read_now(tier.partition, 0, MIB) is not None
    await reader.close()


async def test_what_is_not_accepted_is_there_for_the_next_read(tmp_path: Path) -> None:
    """Also where all else has to go for others: until then the reader is in the middle of it."""
    tier = await tier_of(tmp_path, 17, 3, 40, payload_bytes=(30_000, 40_000))
    reader = RemoteReader(tier.store, chunk_bytes=MIB, cache_bytes=3 * MIB)
    who = Reader("who", 0)
    refused = await reader.read(tier.partition, 0, 8 * MIB, deadline=far(), reader=who)
    for number in (1, 2):  # there is room for two of three segments
        offset = tier.head.tail[number].base_offset
        other = Reader("other", number)
        read = await reader.read(tier.partition, offset, 8 * MIB, deadline=far(), reader=other)
        read.accept()
    assert reader.cached_bytes < 3 * MIB
    again = reader.read_now(tier.partition, 0, 8 * MIB, reader=who)
    assert again is not None
    assert b"".join(again.buffers) == b"".join(refused.buffers)
    await reader.close()


async def test_what_is_accepted_late_does_no_harm(tmp_path: Path) -> None:
    """The reader has gone elsewhere meanwhile, or has been forgotten."""
    tier = await tier_of(tmp_path, 18, 1, 40, payload_bytes=(30_000, 40_000))
    reader = RemoteReader(tier.store, chunk_bytes=MIB, cache_bytes=16 * MIB)
    who, far_away = Reader("who", 1), tier.log.batches[-2].base_offset
    read = await reader.read(tier.partition, 0, 100_000, deadline=far(), reader=who)
    (await reader.read(tier.partition, far_away, 10, deadline=far(), reader=who)).accept()
    read.accept()
    admission = reader._cache.admission
    admission.check()
    assert len(admission.streams) == 1
    for stream in list(admission.streams):
        assert stream.offset == read.next_offset
    await reader.close()
    assert {stream for chunk in admission.chunks for stream in chunk.holders} <= set(admission.streams)


async def test_an_error_keeps_nothing_that_was_read(tmp_path: Path) -> None:
    """Neither in a cycle that waits for the collector, nor with the stream that is to be told of it."""
    tier = await tier_of(tmp_path, 14, 1, 100, payload_bytes=(10_000, 20_000))
    key = KEYS.segment(tier.head.tail[0])
    _, data = await tier.store.get(key)
    broken = bytearray(data)
    broken[1_000] ^= 1
    await tier.store.put(key, bytes(broken), size_bytes=len(broken))
    reader, who = RemoteReader(tier.store), Reader("c", 1)

    def errors() -> int:
        return sum(isinstance(each, CorruptObject) for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = errors()
        assert reader.read_now(tier.partition, 0, MIB, reader=who) is None
        (stream,) = reader._cache.admission.streams
        async with asyncio.timeout(PATIENT_S):
            while stream.failure is None:
                await asyncio.sleep(0)
        assert stream.failure.__traceback__ is None
        for _ in range(2):
            try:
                await reader.read(tier.partition, 0, MIB, deadline=far(), reader=who)
            except CorruptObject:
                stream.failure = None
        await asyncio.sleep(0)
        assert errors() == before
    finally:
        gc.enable()
    await reader.close()


async def test_a_failure_behind_the_queue_is_told_too(tmp_path: Path) -> None:
    """Nobody waits for the load that begins when the stream's turn has come."""
    tier = await tier_of(tmp_path, 13, 2, 60, payload_bytes=(10_000, 20_000))
    reader = RemoteReader(tier.store, cache_bytes=MIB)
    first, second = Reader("c", 1), Reader("c", 2)
    read = await reader.read(tier.partition, 0, 10_000, deadline=far(), reader=first)
    read.accept()
    middle = tier.head.tail[1].base_offset
    await tier.store.delete([KEYS.segment(tier.head.tail[1])])
    assert reader.read_now(tier.partition, middle, MIB, reader=second) is None
    assert reader.waiting_count == 1
    reader._cache.drop(next(iter(reader._cache.admission.streams)))
    with pytest.raises(NotFound):
        async with asyncio.timeout(PATIENT_S):
            while reader.read_now(tier.partition, middle, MIB, reader=second) is None:
                assert reader.stats.get_count < 20, "it is asked for again and again"
                await asyncio.sleep(0)
    await reader.close()


async def test_a_cancelled_read_leaves_its_load_alone(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path, 12, 1, 10)
    reader = RemoteReader(DelayedStore(tier.store, get_delay_ms=5))
    task = asyncio.create_task(reader.read(tier.partition, 0, MIB, deadline=far()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    read = await reader.read(tier.partition, 0, MIB, deadline=far())
    assert read.size_bytes
    assert reader.stats.get_count == 2
    await reader.close()


async def test_a_missing_object_is_an_error_of_its_partition(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path, 13, 2, 10)
    await tier.store.delete([KEYS.segment(tier.head.tail[0])])
    reader = RemoteReader(tier.store)
    with pytest.raises(NotFound):
        await reader.read(tier.partition, 0, MIB, deadline=far())
    offset = tier.head.tail[1].base_offset
    read = await reader.read(tier.partition, offset, MIB, deadline=far())
    assert b"".join(read.buffers) == tier.log.tail(offset)
    await reader.close()


async def test_why_a_load_failed_that_nobody_waited_for_is_told_with_the_next_read(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path, 13, 1, 10)
    await tier.store.delete([KEYS.segment(tier.head.tail[0])])
    reader = RemoteReader(tier.store)
    for offset in (0, 5):  # the second needs the footer to find its place
        who = Reader("c", offset)
        assert reader.read_now(tier.partition, offset, MIB, reader=who) is None
        with pytest.raises(NotFound):
            async with asyncio.timeout(PATIENT_S):
                while reader.read_now(tier.partition, offset, MIB, reader=who) is None:
                    await asyncio.sleep(0)
    await reader.close()


async def test_flipped_bytes_are_never_served(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path, 14, 1, 200)
    key = KEYS.segment(tier.head.tail[0])
    _, data = await tier.store.get(key)
    broken = bytearray(data)
    broken[tier.head.tail[0].data_bytes // 2] ^= 1
    await tier.store.put(key, bytes(broken), size_bytes=len(broken))
    reader = RemoteReader(tier.store)
    with pytest.raises(CorruptObject):
        await reader.read(tier.partition, 0, MIB, deadline=far())
    broken[-70] ^= 1
    await tier.store.put(key, bytes(broken), size_bytes=len(broken))
    with pytest.raises(CorruptObject):
        await RemoteReader(tier.store).read(tier.partition, 0, MIB, deadline=far())
    await reader.close()


async def test_a_start_inside_a_batch_serves_that_batch(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path, 15, 3, 20)
    target = next(b for b in tier.log.batches[25:] if b.end_offset - b.base_offset > 2)
    start = target.base_offset + 1
    partition = RemotePartition(KEYS, Catalog(tier.head.with_start(start, 1)))
    reader = RemoteReader(tier.store)
    read = await reader.read(partition, start, 64 * MIB, deadline=far())
    assert bytes(read.buffers[0]).startswith(target.data)
    assert tier.log.tail(start).startswith(b"".join(read.buffers))
    await reader.close()


async def test_read_ahead_stops_at_the_local_start(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path, 16, 4, 50, payload_bytes=(10_000, 30_000))
    local = tier.head.tail[2].base_offset
    reader = RemoteReader(tier.store, chunk_bytes=MIB)
    partition = RemotePartition(KEYS, tier.partition.catalog, local_start_offset=local)
    offset = 0
    while offset < tier.head.tail[1].base_offset:
        read = await reader.read(partition, offset, 200_000, deadline=far())
        read.accept()
        offset = read.next_offset
    await asyncio.sleep(0.01)
    assert reader.stats.fetched_bytes <= sum(e.object_bytes for e in tier.head.tail[:2])
    await reader.close()


@pytest.mark.parametrize("seed", range(4))
async def test_lookups_by_timestamp_equal_a_walk_of_the_log(tmp_path: Path, seed: int) -> None:
    tier = await tier_of(tmp_path, seed, 4, 80, payload_bytes=(10, 4_000))
    rng = random.Random(seed)
    start = rng.randrange(tier.log.end_offset // 2)
    partition = RemotePartition(KEYS, Catalog(tier.head.with_start(start, 1)))
    lookups = RemoteLookups(RemoteReader(tier.store, chunk_bytes=MIB))
    visible = [b for b in tier.log.batches if b.end_offset > start]
    for timestamp in [0, 1_000, 8_990, 9_000, 9_001, *(rng.randint(900, 9_100) for _ in range(30))]:
        want = next((b for b in visible if b.max_timestamp_ms >= timestamp), None)
        got = await lookups.batch_at_timestamp(partition, timestamp)
        assert (got and bytes(got.data)) == (want and want.data)
        assert got is None or got.end_offset == (want and want.end_offset)
    largest = max(b.max_timestamp_ms for b in visible)
    want = next(b for b in visible if b.max_timestamp_ms == largest)
    got = await lookups.batch_of_max_timestamp(partition)
    assert got is not None
    assert bytes(got.data) == want.data
    for _ in range(20):
        offset = rng.randrange(start, tier.head.end)
        found = await lookups.batch_at(partition, offset)
        assert found is not None
        assert found.base_offset <= offset < found.end_offset


async def test_aborted_transactions_come_from_flagged_segments_only(tmp_path: Path) -> None:
    rng = random.Random(1)
    tier = Tier(MemoryStore(), tmp_path)
    first = AbortedTransaction(7, 5, 900, 901)
    await tier.add(extend(tier.log, rng, 20), aborted=(first,))
    await tier.add(extend(tier.log, rng, 20))
    reader = RemoteReader(tier.store)
    lookups = RemoteLookups(reader)
    split = tier.head.tail[0].end_offset
    assert await lookups.aborted_transactions(tier.partition, 0, tier.head.end) == [first]
    assert await lookups.aborted_transactions(tier.partition, 0, 5) == []
    assert await lookups.aborted_transactions(tier.partition, split, tier.head.end) == []
    assert reader.stats.get_count == 1


async def test_lineage_and_snapshot_come_from_the_last_footer(tmp_path: Path) -> None:
    rng = random.Random(1)
    tier = Tier(MemoryStore(), tmp_path)
    lookups = RemoteLookups(RemoteReader(tier.store))
    assert await lookups.lineage(RemotePartition(KEYS, Catalog(TierHead.empty()))) == ()
    await tier.add(extend(tier.log, rng, 20), producer_snapshot=b"old")
    end = tier.head.end
    batches = extend(tier.log, rng, 5, leader_epoch=4)
    lineage = ((0, 0), (4, end), (9, batches[-1].end_offset))
    await tier.add(batches, lineage=lineage, producer_snapshot=b"new")
    assert await lookups.lineage(tier.partition) == ((0, 0), (4, end))
    assert await lookups.producer_snapshot(tier.partition) == b"new"
    assert tier.head.tail[-1].last_batch_epoch == 4
