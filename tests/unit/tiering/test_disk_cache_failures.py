"""The disk cache on damaged files and failing disks: nothing false is served, and reads go on."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from tests.servers.small_disk import small_disk
from tests.unit.tiering.disk_caches import (
    CLUSTER,
    MIB,
    bytes_of,
    files,
    flip,
    keep,
    object_of,
    opened,
    settled,
    taken_bytes,
    until,
)
from tiering.disk_cache import cache as cache_module
from tiering.disk_cache.cache import DiskCache
from tiering.disk_cache.entries import HEADER_BYTES, parse_name

# -- damage


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


@pytest.mark.parametrize("seed", range(5))
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


async def test_a_file_under_the_name_of_another_range_or_version_is_foreign(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        for start in (0, MIB):
            await keep(cache, object_of(1), start, bytes_of(start, MIB))
        await keep(cache, object_of(1, version=2), 0, bytes_of(2, MIB))
        first, second, other = files(tmp_path)
        for source, target in ((first, tmp_path / "x"), (second, first), (other, second)):
            shutil.move(source, target)
        shutil.move(tmp_path / "x", other)
        for object_, start in ((object_of(1), 0), (object_of(1), MIB), (object_of(1, version=2), 0)):
            assert await cache.read(object_, start, start + MIB) is None
        assert cache.stats.corrupt_count == 3


@pytest.mark.parametrize("seed", range(2))
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
