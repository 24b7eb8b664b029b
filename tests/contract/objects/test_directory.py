"""What only a directory can show: several processes on one root, leftovers, files, the system's errors."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tiering.errors import (
    AccessDenied,
    InvalidKey,
    NotFound,
    ObjectStoreError,
    PreconditionFailed,
    StoreFull,
    Unavailable,
)
from tiering.objects.directory import DirectoryStore
from tiering.objects.file_errors import translated
from tiering.objects.open_files import OpenFiles
from tiering.objects.port import Buffer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[DirectoryStore]:
    store = DirectoryStore(root)
    yield store
    await store.close()


def files_of(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def test_objects_are_plain_files_and_nothing_else_stays(root: Path, store: DirectoryStore) -> None:
    await store.put("a/b/c.seg", b"hello", size_bytes=5)
    assert (root / "a/b/c.seg").read_bytes() == b"hello"
    with pytest.raises(PreconditionFailed):
        await store.put("a/b/c.seg", b"other", size_bytes=5, if_absent=True)
    assert files_of(root) == [".lock", "a/b/c.seg"]
    await store.delete(["a/b/c.seg"])
    assert files_of(root) == [".lock"]
    assert not (root / "a").exists()


async def test_a_folder_is_no_object_and_an_object_no_folder(store: DirectoryStore) -> None:
    await store.put("a/b", b"x", size_bytes=1)
    for call in (store.head("a"), store.get("a"), store.get_range("a", 0, 1), store.head("a/b/c")):
        with pytest.raises((NotFound, InvalidKey)):
            await call
    for key in ("a", "a/b/c"):
        for if_absent in (True, False):
            with pytest.raises(InvalidKey):
                await store.put(key, b"y", size_bytes=1, if_absent=if_absent)
    await store.delete(["a", "a/b/c"])
    assert bytes((await store.get("a/b"))[1]) == b"x"


async def test_two_stores_on_one_root_see_each_other(root: Path, store: DirectoryStore) -> None:
    other = DirectoryStore(root)
    first = await store.put("head", b"one", size_bytes=3)
    assert bytes(await store.get_range("head", 0, 3)) == b"one"
    second = await other.put_if_match("head", b"two", first.version)
    assert bytes(await store.get_range("head", 0, 3)) == b"two"
    with pytest.raises(PreconditionFailed):
        await store.put_if_match("head", b"six", first.version)
    await store.put_if_match("head", b"six", second.version)
    assert bytes(await other.get_range("head", 0, 3)) == b"six"
    await other.delete(["head"])
    with pytest.raises(NotFound):
        await store.get_range("head", 0, 3)
    await other.close()


async def test_opening_removes_what_dead_writers_left_and_nothing_else(
    root: Path, store: DirectoryStore
) -> None:
    released, reached = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[Buffer]:
        yield bytes(2 * 1024 * 1024)
        reached.set()
        await released.wait()
        yield b"end"

    put = asyncio.ensure_future(store.put("live", slow(), size_bytes=2 * 1024 * 1024 + 3))
    await reached.wait()
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", _DIES_WHILE_WRITING, str(root)])
    assert killed.returncode == -9
    assert len(files_of(root / ".tmp")) == 2
    await DirectoryStore(root).close()
    assert len(files_of(root / ".tmp")) == 1
    released.set()
    await put
    assert files_of(root) == [".lock", "live"]


_DIES_WHILE_WRITING = """
import asyncio, os, sys
from pathlib import Path
from tiering.objects.directory import DirectoryStore

async def dying():
    yield bytes(2 * 1024 * 1024)
    os.kill(os.getpid(), 9)
    yield b""

asyncio.run(DirectoryStore(Path(sys.argv[1])).put("dead", dying(), size_bytes=3 * 1024 * 1024))
"""


async def test_no_space(root: Path, store: DirectoryStore) -> None:
    async def some() -> AsyncIterator[Buffer]:
        yield bytes(2 * 1024 * 1024)

    with pytest.raises(StoreFull) as caught:
        await store.put("huge", some(), size_bytes=1 << 60)
    assert caught.value.retriable
    assert files_of(root) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EACCES, AccessDenied),
        (errno.EROFS, AccessDenied),
        (errno.ENOENT, NotFound),
        (errno.ENOTDIR, InvalidKey),
        (errno.EIO, Unavailable),
        (errno.ESTALE, Unavailable),
        (errno.EMFILE, Unavailable),
    ],
)
def test_errors_of_the_system(number: int, kind: type[ObjectStoreError]) -> None:
    with pytest.raises(kind, match=r"\[some/key\]"), translated("some/key"):
        raise OSError(number, os.strerror(number))


def test_few_files_stay_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    files = OpenFiles(capacity=4)
    paths = [tmp_path / f"{number}" for number in range(20)]
    for path in paths:
        path.write_bytes(path.name.encode())
    for path in paths * 2:
        with files.opened(path.name, str(path)) as fd, files.opened(path.name, str(path)) as again:
            assert fd == again
            assert os.pread(fd, 10, 0) == path.name.encode()
        assert len(os.listdir("/proc/self/fd")) <= before + 4
    with files.opened("0", str(paths[0])) as fd:
        files.close()
        assert os.pread(fd, 1, 0) == b"0"
    assert len(os.listdir("/proc/self/fd")) == before


async def test_byte_order_of_lists(store: DirectoryStore) -> None:
    names = ["a-b/x", "a.b", "a/x", "a/y/z", "a0", "b"]
    for key in names:
        await store.put(key, b"x", size_bytes=1)
    for limit in (1, 2, 3, 1_000):
        found: list[str] = []
        while page := await store.list("", start_after=found[-1] if found else "", limit=limit):
            found += [info.key for info in page]
        assert found == sorted(names)


async def test_the_loop_is_never_blocked(store: DirectoryStore) -> None:
    """Everything is a hop to a thread: the loop turns while the disk works."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count())
    data = bytes(8 * 1024 * 1024)
    await store.put("k", data, size_bytes=len(data))
    await store.get_range("k", 0, len(data))
    assert turns > 10
    counting.cancel()
