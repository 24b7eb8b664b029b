"""Disk caches on real files, for the tests of what they keep."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.unit.tiering.segments import KEYS
from tiering.disk_cache.cache import DiskCache
from tiering.disk_cache.entries import CachedObject, parse_name
from tiering.keys import SegmentName

MIB = 1 << 20
CLUSTER = KEYS.cluster_id


def object_of(number: int, version: int = 1) -> CachedObject:
    return CachedObject(KEYS, SegmentName(number, number + 1, 0, number.to_bytes(16, "big")), version)


def bytes_of(number: int, size_bytes: int) -> memoryview:
    return memoryview(random.Random(number).randbytes(size_bytes))


@asynccontextmanager
async def opened(
    directory: Path, budget_bytes: int = 64 * MIB, said: list[str] | None = None, **more: int
) -> AsyncIterator[DiskCache]:
    """A cache that is running."""
    say = said.append if said is not None else pytest.fail
    cache = await DiskCache.open(directory, budget_bytes, CLUSTER, say, **more)
    running = asyncio.ensure_future(cache.run())
    try:
        yield cache
        assert not running.done(), running
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await cache.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENT_S):
        while not condition():
            await asyncio.sleep(0.001)


async def settled(cache: DiskCache) -> None:
    """All that was offered is written, or given up, and what has to go is gone."""
    index = cache._index
    await until(lambda: not cache.waiting_bytes and not index.leaving_count)


async def keep(cache: DiskCache, object_: CachedObject, start: int, data: memoryview) -> None:
    cache.offer(object_, start, data)
    await settled(cache)


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if parse_name(path.name, CLUSTER) is not None)


def taken_bytes(directory: Path) -> int:
    """Of the disk, by what the file system says."""
    total = 0
    for path in directory.iterdir():
        with suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
