"""The disk cache on real files: what it holds is true or not served, within its bound, whatever the disk does."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.servers.small_disk import small_disk
from tests.unit.tiering.segments import KEYS, Tier, extend
from tiering.disk_cache import cache as cache_module
from tiering.disk_cache.cache import DiskCache
from tiering.disk_cache.entries import BLOCK_BYTES, ENTRY_BYTES_MAX, HEADER_BYTES, CachedObject, parse_name
from tiering.errors import Misconfigured
from tiering.keys import SegmentName
from tiering.objects.memory import MemoryStore
from tiering.reading.holding import Reader
from tiering.reading.reader import RemoteReader

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


# -- keeping


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


@pytest.mark.parametrize("seed", range(3))
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


# -- damage


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def lengthen(path: Path, rng: random.Random) -> None:
    with path.open("ab") as file:
        file.write(rng.randbytes(rng.randint(1, 5000)))


def scribble(path: Path, rng: random.Random) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(rng.randrange(size))
        file.write(rng.randbytes(rng.randint(1, 9000)))
    os.truncate(path, size)


def zeros(path: Path, rng: random.Random) -> None:
    """As a power loss leaves a file that was never written to the disk."""
    size = path.stat().st_size
    os.truncate(path, rng.choice([0, HEADER_BYTES]))
    os.truncate(path, size)


def another(path: Path, rng: random.Random) -> None:
    shutil.copyfile(rng.choice([each for each in files(path.parent) if each != path]), path)


def gone(path: Path, rng: random.Random) -> None:
    path.unlink()


DAMAGE = (flip, flip, cut, lengthen, scribble, scribble, zeros, another, gone)


@pytest.mark.parametrize("seed", range(8))
async def test_random_damage_is_never_served(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    sizes = [rng.randint(1, 2 * MIB) for _ in range(12)]
    damaged: set[int] = set()

    def strike() -> None:
        for path in rng.sample(files(tmp_path), 4):
            place = parse_name(path.name, CLUSTER)
            assert place is not None
            damaged.add(place.object.segment.base_offset)
            rng.choice(DAMAGE)(path, rng)

    async def look(cache: DiskCache) -> None:
        for number, size in enumerate(sizes):
            got = await cache.read(object_of(number), 0, size)
            assert got is None or got == bytes_of(number, size)
            assert got is not None or number in damaged
        await settled(cache)

    async with opened(tmp_path) as cache:
        for number, size in enumerate(sizes):
            await keep(cache, object_of(number), 0, bytes_of(number, size))
        await look(cache)
        strike()
        await look(cache)
        for number, size in enumerate(sizes):
            await keep(cache, object_of(number), 0, bytes_of(number, size))
        await look(cache)
    strike()
    for name in ("stranger", "x.chunk", ".writing-half"):
        (tmp_path / name).write_bytes(rng.randbytes(1000))
    async with opened(tmp_path) as cache:
        await look(cache)
        assert cache.stats.corrupt_count > 0
        assert cache.used_bytes == sum(path.stat().st_size + 4095 & ~4095 for path in files(tmp_path))
    assert (tmp_path / "stranger").exists()
    assert not (tmp_path / ".writing-half").exists()


@pytest.mark.parametrize("seed", range(4))
async def test_every_flipped_bit_of_a_header_is_noticed(tmp_path: Path, seed: int) -> None:
    rng, data = random.Random(seed), bytes_of(1, 5000)
    async with opened(tmp_path) as cache:
        for number in range(30):
            await keep(cache, object_of(number), 0, data)
        for path in files(tmp_path):
            with path.open("r+b") as file:
                at = rng.randrange(HEADER_BYTES)
                byte = os.pread(file.fileno(), 1, at)[0]
                os.pwrite(file.fileno(), bytes([byte ^ 1 << rng.randrange(8)]), at)
        for number in range(30):
            assert await cache.read(object_of(number), 0, 5000) is None
        await settled(cache)
        assert cache.stats.corrupt_count == 30
        assert (cache.entry_count, cache.used_bytes, files(tmp_path)) == (0, 0, [])


# -- disks that fail


async def test_a_full_disk_is_left_alone_and_gets_room_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    data = bytes_of(1, MIB)
    with small_disk(tmp_path / "disk", 24) as disk:
        async with opened(disk.path / "c", 16 * MIB, said, free_bytes_min=2 * MIB) as cache:
            for number in range(6):
                await keep(cache, object_of(number), 0, data)
            disk.fill(leave_bytes=2 * MIB + 1000)
            for number in range(6, 9):
                await keep(cache, object_of(number), 0, data)
            assert said == [
                "cannot be written: less than 2097152 bytes would stay free; nothing is written for 60 s"
            ]
            assert (cache.stats.write_error_count, cache.stats.unkept_count) == (1, 2)
            assert cache.is_paused
            assert cache.entry_count == 5  # the oldest gave room back
            assert await cache.read(object_of(3), 0, MIB) == data
            disk.clear()
            monkeypatch.setattr(cache_module, "_now_s", lambda: float("inf"))
            await keep(cache, object_of(7), 0, data)
            assert await cache.read(object_of(7), 0, MIB) == data
            assert (len(said), taken_bytes(disk.path / "c")) == (1, cache.used_bytes)


async def test_a_disk_without_any_room_leaves_nothing_half_written(tmp_path: Path) -> None:
    said: list[str] = []
    with small_disk(tmp_path / "disk", 24) as disk:
        async with opened(disk.path / "c", 16 * MIB, said) as cache:
            write = cache._files.write

            def full_meanwhile(*args: object) -> None:
                with suppress(OSError):
                    os.posix_fallocate(filler, 0, disk.free_bytes - MIB // 2)
                write(*args)  # type: ignore[arg-type]

            filler = os.open(disk.path / "filler", os.O_RDWR | os.O_CREAT)
            cache._files.__dict__["_free_bytes_min"] = -(
                1 << 40
            )  # it is taken between the question and the write
            cache._files.__dict__["write"] = full_meanwhile
            await keep(cache, object_of(1), 0, bytes_of(1, 4 * MIB))
            os.close(filler)
            assert said == ["cannot be written: No space left on device; nothing is written for 60 s"]
            assert [path.name for path in (disk.path / "c").iterdir()] == [".lock"]
            assert cache.used_bytes == 0


async def test_a_read_error_switches_it_off_for_a_while(tmp_path: Path) -> None:
    said: list[str] = []
    async with opened(tmp_path, said=said) as cache:
        for number in range(2):
            await keep(cache, object_of(number), 0, bytes_of(number, MIB))
        first, second = files(tmp_path)
        first.unlink()
        first.mkdir()  # reading it is an error of the system
        assert await cache.read(object_of(0), 0, MIB) is None
        assert said == ["cannot be read: Is a directory; left alone for 60 s"]
        assert await cache.read(object_of(1), 0, MIB) is None
        cache.offer(object_of(2), 0, bytes_of(2, MIB))
        assert (cache.stats.read_error_count, cache.stats.unkept_count, cache.is_paused) == (1, 1, True)
        assert second.exists()
        first.rmdir()


async def test_a_disk_that_hangs_holds_up_a_read_for_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "READ_TIMEOUT_S", 0.05)
    said: list[str] = []
    async with opened(tmp_path, said=said) as cache:
        await keep(cache, object_of(0), 0, bytes_of(0, MIB))
        (path,) = files(tmp_path)
        path.unlink()
        os.mkfifo(path)  # opening it waits for a writer
        assert await cache.read(object_of(0), 0, MIB) is None
        assert said == ["cannot be read: no answer to a read within 0.05 s; left alone for 60 s"]
        (entry,) = cache._index._by_age
        assert entry.reader_count == 1  # as long as the thread is in it
        os.close(os.open(path, os.O_WRONLY))
        await until(lambda: not entry.reader_count)


async def test_a_directory_that_vanishes_costs_no_read(tmp_path: Path) -> None:
    said: list[str] = []
    async with opened(tmp_path / "c", said=said) as cache:
        await keep(cache, object_of(0), 0, bytes_of(0, MIB))
        shutil.rmtree(tmp_path / "c")
        assert await cache.read(object_of(0), 0, MIB) is None
        await keep(cache, object_of(1), 0, bytes_of(1, MIB))
        assert said == ["cannot be written: No such file or directory; nothing is written for 60 s"]
        assert (cache.stats.corrupt_count, cache.entry_count, cache.used_bytes) == (1, 0, 0)


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


# -- with a reader


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
