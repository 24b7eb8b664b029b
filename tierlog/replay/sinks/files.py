"""Files that appear whole: in a directory, or as objects of a bucket."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from tiering.errors import TieringError
from tiering.objects.opening import open_store
from tiering.objects.port import list_all
from tierlog.errors import UserError
from tierlog.replay.sinks.port import explained

TEMPORARY = ".writing"
DIRECTORY_FILE_BYTES = 128 << 20
BUCKET_FILE_BYTES = 16 << 20
"""An object is held in memory until it is put."""


class Handle(NamedTuple):
    """A file without its name."""

    stream: Any
    path: Path | None


class Files(Protocol):
    file_bytes: int
    """How large files are to become."""

    def names(self) -> list[str]:
        """All that are there, with ``/`` between folders; none that is unfinished."""
        ...

    def begin(self) -> Handle: ...

    def commit(self, handle: Handle, name: str) -> None:
        """Under its name, durably, from now on."""
        ...

    def close(self) -> None: ...


class DirectoryFiles:
    """One replay at a time, by a lock that its death releases. Raises UserError."""

    file_bytes = DIRECTORY_FILE_BYTES

    def __init__(self, root: Path) -> None:
        self._root = root
        self._begun = 0
        with explained(root):
            root.mkdir(parents=True, exist_ok=True)
            self._lock = (root / f"{TEMPORARY}.lock").open("a")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._lock.close()
                raise UserError(
                    f"another replay writes to {root}: wait for it, or name another directory"
                ) from None
            for path in root.glob(f"{TEMPORARY}-*"):
                path.unlink()

    def names(self) -> list[str]:
        return [
            path.relative_to(self._root).as_posix()
            for path in self._root.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        ]

    def begin(self) -> Handle:
        self._begun += 1
        path = self._root / f"{TEMPORARY}-{self._begun}"
        with explained(path):
            return Handle(pa.OSFile(str(path), "wb"), path)

    def commit(self, handle: Handle, name: str) -> None:
        assert handle.path is not None
        target = self._root / name
        with explained(target):
            handle.stream.close()
            target.parent.mkdir(parents=True, exist_ok=True)
            _sync(handle.path)
            handle.path.rename(target)
            for folder in (target.parent, target.parent.parent, self._root):
                _sync(folder)

    def close(self) -> None:
        for path in self._root.glob(f"{TEMPORARY}-*"):
            path.unlink()
        self._lock.close()
        (self._root / f"{TEMPORARY}.lock").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class BucketFiles:
    """Objects below a URL. A loop of its own runs the store's calls. Raises UserError."""

    file_bytes = BUCKET_FILE_BYTES

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._url = url.partition("?")[0]
        try:
            self._store = self._runner.run(self._opened(url))
        except TieringError as error:
            raise UserError(f"--sink {self._url}: {error}") from None

    @staticmethod
    async def _opened(url: str) -> Any:
        return open_store(url)

    def names(self) -> list[str]:
        async def listed() -> list[str]:
            return [info.key async for info in list_all(self._store, "")]

        return list(self._run(listed()))

    def begin(self) -> Handle:
        return Handle(pa.BufferOutputStream(), None)

    def commit(self, handle: Handle, name: str) -> None:
        data = memoryview(handle.stream.getvalue())
        self._run(self._store.put(name, data, size_bytes=len(data)))

    def close(self) -> None:
        self._run(self._store.close())
        self._runner.close()

    def _run(self, work: Any) -> Any:
        try:
            return self._runner.run(work)
        except TieringError as error:
            raise UserError(f"{self._url}: {error}; go on with --resume, what was written stays") from error
