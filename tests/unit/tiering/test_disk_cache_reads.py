"""A reader with a disk cache: what is kept, and what is not fetched any more."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.patience import PATIENT_S
from tests.unit.tiering.disk_caches import (
    MIB,
    files,
    flip,
    keep,
    opened,
    settled,
)
from tests.unit.tiering.segments import KEYS, Tier, extend
from tiering.disk_cache.entries import CachedObject
from tiering.objects.memory import MemoryStore
from tiering.reading.holding import Reader
from tiering.reading.reader import RemoteReader


async def tier_of(directory: Path, segments: int) -> Tier:
    directory.mkdir()
    tier, rng = Tier(MemoryStore(), directory), random.Random(5)
    for _ in range(segments):
        await tier.add(extend(tier.log, rng, 40, payload_bytes=(60_000, 120_000)))
    return tier


async def scan(
    reader: RemoteReader, tier: Tier, who: str, offset: int = 0, end_offset: int | None = None
) -> bytes:
    """Everything from ``offset`` on, in order."""
    found = b""
    end = tier.head.end if end_offset is None else end_offset
    while offset < end:
        deadline = asyncio.get_running_loop().time() + PATIENT_S
        got = await reader.read(tier.partition, offset, MIB, deadline=deadline, reader=Reader(who, who))
        found += b"".join(got.buffers)
        offset = got.next_offset
        got.accept()
    return found


async def test_one_scan_leaves_it_as_it_is_and_a_second_one_is_kept(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path / "local", 3)
    whole = tier.log.tail(0)
    async with opened(tmp_path / "c") as cache:
        for number in range(2):
            reader = RemoteReader(tier.store, disk=cache)  # its memory is empty
            assert await scan(reader, tier, "a") == whole
            await settled(cache)
            assert reader.stats.fetched_bytes >= len(whole)
            await reader.close()
            data_bytes = cache.used_bytes - sum(e.object_bytes - e.data_bytes for e in tier.head.tail)
            assert data_bytes < 100_000 if not number else data_bytes >= len(whole)
    async with opened(tmp_path / "c") as cache:
        reader = RemoteReader(tier.store, disk=cache)
        assert await scan(reader, tier, "b") == whole
        assert reader.stats.get_count == 0
        await reader.close()


async def test_what_two_read_from_memory_is_kept(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path / "local", 2)
    async with opened(tmp_path / "c") as cache:
        reader = RemoteReader(tier.store, disk=cache)
        await scan(reader, tier, "a")
        await settled(cache)
        before = cache.used_bytes
        await scan(reader, tier, "b")
        await settled(cache)
        assert cache.used_bytes - before >= len(tier.log.tail(0))
        assert reader.stats.fetched_bytes <= 1.1 * len(tier.log.tail(0))
        await reader.close()


async def test_only_what_the_disk_does_not_have_is_fetched(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path / "local", 1)
    whole, (entry,) = tier.log.tail(0), tier.head.tail
    kept = CachedObject.of(KEYS, entry)
    async with opened(tmp_path / "c") as cache:
        await keep(cache, kept, MIB, memoryview(whole)[MIB : 2 * MIB])
        reader = RemoteReader(tier.store, disk=cache)
        assert await scan(reader, tier, "a") == whole
        assert reader.stats.fetched_bytes == entry.object_bytes - MIB
        await reader.close()


async def test_what_is_damaged_meanwhile_is_fetched_and_kept_again(tmp_path: Path) -> None:
    tier = await tier_of(tmp_path / "local", 2)
    whole = tier.log.tail(0)
    async with opened(tmp_path / "c") as cache:
        for _ in range(2):
            reader = RemoteReader(tier.store, disk=cache)
            await scan(reader, tier, "a")
            await reader.close()
            await settled(cache)
        for path in files(tmp_path / "c"):
            flip(path, random.Random(3))
        count = cache.entry_count
        reader = RemoteReader(tier.store, disk=cache)
        assert await scan(reader, tier, "a") == whole
        assert cache.stats.corrupt_count == count
        await reader.close()
        await settled(cache)
        reader = RemoteReader(tier.store, disk=cache)
        assert await scan(reader, tier, "a") == whole
        assert reader.stats.get_count == 0
        await reader.close()
