"""Copies a log's directory beside itself: first what does not change any more, while the log is in use, then the rest.

Blocks; for a worker thread. Everything that was copied is on the disk when a step returns. Raises StorageError.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from tierlog.errors import StorageError
from tierlog.log.filesystem import storage_error
from tierlog.log.names import LOG, parse_segment_file

PIECE_BYTES = 1024 * 1024

R = TypeVar("R")


class Part(NamedTuple):
    """One segment as far as it is written. ``is_sealed``: nothing of it will change."""

    base_name: str
    size_bytes: int
    is_sealed: bool


class DirCopy:
    """``copied_bytes`` of ``.log`` files may be read from another thread."""

    def __init__(self, source: Path, target: Path) -> None:
        self.source = source
        self.target = target
        self.copied_bytes = 0
        self._finished: set[str] = set()
        # A broker that stops waits for no more than one piece.
        self.is_given_up = False

    def begin(self) -> None:
        """An empty directory; what an earlier attempt left goes."""
        shutil.rmtree(self.target, ignore_errors=True)
        self._guarded(self.target.mkdir)

    def copy_parts(self, parts: Sequence[Part]) -> None:
        """The segments of a log that goes on being written to."""
        for part in parts:
            log = part.base_name + LOG
            if log in self._finished:
                continue
            self._guarded(lambda name=log, end=part.size_bytes: self._extend(name, end))  # type: ignore[misc]
            if part.is_sealed:
                for path in self.source.glob(f"{part.base_name}.*index"):
                    self._guarded(lambda path=path: self._copy(path))  # type: ignore[misc]
                self._finished.add(log)

    def copy_rest(self) -> None:
        """The log is closed: all that is missing."""
        for path in sorted(self._guarded(lambda: list(self.source.iterdir()))):
            found = parse_segment_file(path.name)
            if path.name in self._finished or not path.is_file():
                continue
            if found is not None and found[1:] == (LOG, ""):
                size_bytes = path.stat().st_size
                self._guarded(lambda path=path, end=size_bytes: self._extend(path.name, end))  # type: ignore[misc]
            else:
                self._guarded(lambda path=path: self._copy(path))  # type: ignore[misc]
        self._guarded(lambda: sync_directory(self.target))

    def _extend(self, name: str, end: int) -> None:
        """Copies from where the copy ends."""
        with (self.source / name).open("rb") as source, (self.target / name).open("ab") as target:
            position = target.tell()
            source.seek(position)
            while position < end:
                if self.is_given_up:
                    raise StorageError("given up")
                piece = source.read(min(PIECE_BYTES, end - position))
                if not piece:
                    raise StorageError(f"{self.source / name} is shorter than it was")
                target.write(piece)
                position += len(piece)
                self.copied_bytes += len(piece)
            target.flush()
            os.fdatasync(target.fileno())

    def _copy(self, path: Path) -> None:
        target = self.target / path.name
        shutil.copyfile(path, target)
        with target.open("rb") as copied:
            os.fsync(copied.fileno())

    def _guarded(self, call: Callable[[], R]) -> R:
        try:
            return call()
        except OSError as error:
            raise storage_error(error, error.filename or self.target) from error


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
