"""The disk cache on real files: what it holds, within its bound, and what a start refuses."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.servers.small_disk import small_disk
from tests.unit.tiering.disk_caches import (
    CLUSTER,
    MIB,
    bytes_of,
    files,
    keep,
    object_of,
    opened,
    settled,
    taken_bytes,
)
from tiering.disk_cache.cache import DiskCache
from tiering.disk_cache.entries import BLOCK_BYTES, ENTRY_BYTES_MAX, HEADER_BYTES
from tiering.errors import Misconfigured


async def test_what_was_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    size = ENTRY_BYTES_MAX + 3 * MIB + 12_345
    data = bytes_of(1, size)
    async with opened(tmp_path) as cache:
        assert await cache.read(object_of(1), 0, MIB) is None
        await keep(cache, object_of(1), 0, data)
        assert cache.entry_count == len(files(tmp_path)) == 2
    async with opened(tmp_path) as cache:
        assert cache.entry_count == 2
        assert await cache.read(object_of(1), 0, size) == data
        assert await cache.read(object_of(1), 15 * MIB, 17 * MIB) == data[15 * MIB : 17 * MIB]
        assert await cache.read(object_of(1, version=2), 0, size) is None  # the same key, another version
        assert await cache.read(object_of(2), 0, size) is None
        assert (cache.stats.hit_count, cache.stats.miss_count) == (2, 2)
        assert cache.used_bytes == sum(path.stat().st_size + 4095 & ~4095 for path in files(tmp_path))


@pytest.mark.parametrize("seed", range(2))
async def test_any_ranges_of_any_objects_come_back_as_they_were(tmp_path: Path, seed: int) -> None:
    rng, blocks = random.Random(seed), 12
    data = {n: bytes_of(n, blocks * BLOCK_BYTES - 777) for n in range(2)}
    hits = 0
    async with opened(tmp_path, 16 * MIB) as cache:
        for _ in range(80):
            number, first = rng.randrange(2), rng.randrange(blocks)
            last = rng.randint(first + 1, blocks)
            start, end = first * BLOCK_BYTES, min(last * BLOCK_BYTES, len(data[number]))
            if rng.random() < 0.4:
                await keep(cache, object_of(number), start, data[number][start:end])
            got = await cache.read(object_of(number), start, end)
            hits += got is not None
            assert got is None or got == data[number][start:end]
            cache._index.check()
            if rng.random() < 0.05:
                position = rng.randrange(start, end)
                low, high = cache.stretch(object_of(number), position, start, end)
                assert start <= low <= position < high <= end
    assert hits > 20


async def test_its_files_never_take_more_than_the_budget(tmp_path: Path) -> None:
    budget = 8 * MIB + 100_000
    data = bytes_of(1, 3 * MIB)
    most = 0
    async with opened(tmp_path, budget, waiting_bytes_max=1 << 30) as cache:
        for number in range(30):
            cache.offer(object_of(number), 0, data[: (number % 3 + 1) * MIB])
        while cache.waiting_bytes:
            most = max(most, taken_bytes(tmp_path))
            cache._index.check()
            await asyncio.sleep(0)
        await settled(cache)
        assert cache.stats.eviction_count > 20
    assert budget // 2 < most <= budget
    # A smaller one holds from the start on; the latest stay.
    latest = [path for path in files(tmp_path) if "-29-30-0-" in path.name]
    async with opened(tmp_path, 4 * MIB) as cache:
        assert taken_bytes(tmp_path) <= 4 * MIB
        assert latest[0] in files(tmp_path)


async def test_what_is_read_last_goes_last_also_after_a_restart(tmp_path: Path) -> None:
    data = bytes_of(1, MIB)
    async with opened(tmp_path, 4 * (MIB + HEADER_BYTES)) as cache:
        for number in range(4):
            await keep(cache, object_of(number), 0, data)
        for number in (2, 0):
            assert await cache.read(object_of(number), 0, MIB) == data
    async with opened(tmp_path, 4 * (MIB + HEADER_BYTES)) as cache:
        for number in (4, 5):
            await keep(cache, object_of(number), 0, data)
        there = [n for n in range(6) if await cache.read(object_of(n), 0, MIB) is not None]
    assert there == [0, 2, 4, 5]


async def test_beyond_the_bound_of_what_waits_nothing_is_kept(tmp_path: Path) -> None:
    cache = await DiskCache.open(tmp_path, 64 * MIB, CLUSTER, pytest.fail, waiting_bytes_max=2 * MIB)
    data = bytes_of(1, MIB)
    for number in range(5):
        cache.offer(object_of(number), 0, data)
        assert cache.waiting_bytes <= 2 * MIB
    whole = bytes_of(1, 3 * MIB)
    cache.offer(object_of(6), 0, whole[:MIB])  # a view counts with all that it keeps in memory
    assert (cache.waiting_bytes, cache.stats.unkept_count) == (2 * MIB, 4)
    await cache.close()


async def test_dead_objects_are_dropped(tmp_path: Path) -> None:
    data = bytes_of(1, MIB)
    async with opened(tmp_path) as cache:
        for number in range(4):
            await keep(cache, object_of(number), 0, data)
        assert await cache.retain(lambda each: each.segment.base_offset % 2 == 0) == 2
        await settled(cache)
        assert cache.entry_count == len(files(tmp_path)) == 2
        assert cache.used_bytes == 2 * (MIB + HEADER_BYTES)


# -- what a start refuses


async def test_two_never_share_a_directory(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(Misconfigured, match="is used by another broker"):
            await DiskCache.open(tmp_path, 64 * MIB, CLUSTER, pytest.fail)
    async with opened(tmp_path):
        pass


async def test_a_limit_beyond_the_disk_and_a_file_in_the_way_are_refused(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", 24) as disk,
        pytest.raises(Misconfigured, match="more than its disk has"),
    ):
        await DiskCache.open(disk.path / "c", 25 * MIB, CLUSTER, pytest.fail)
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match=r"file/c: Not a directory"):
        await DiskCache.open(tmp_path / "file" / "c", 25 * MIB, CLUSTER, pytest.fail)
