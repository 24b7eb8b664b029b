"""Copies a log's directory beside itself: first what does not change any more, while the log is in use, then the rest.

A sealed segment that was copied whole gets the mtime of its source. By mtime and size, an attempt after a restart knows
what it need not copy again: every change of a segment changes its mtime.

Blocks; for a worker thread. Everything that was copied is on the disk when a step returns. Raises StorageError.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tierlog.errors import StorageError
from tierlog.log.files.filesystem import REAL, Filesystem, translated
from tierlog.log.files.names import DELETED, LOG, PARTITION_METADATA, TEMPORARY, parse_segment_file

PIECE_BYTES = 1024 * 1024


class Part(NamedTuple):
    """One segment as far as it is written: ``size_bytes`` of its ``.log``. ``is_sealed``: it will not change any more."""

    base_name: str
    size_bytes: int
    is_sealed: bool


class DirCopy:
    """``copied_bytes`` of ``.log`` files may be read from another thread. ``target`` may be there already."""

    def __init__(self, source: Path, target: Path, filesystem: Filesystem = REAL) -> None:
        self.source = source
        self.target = target
        self.filesystem = filesystem
        self.copied_bytes = 0
        self._finished: set[str] = set()
        # Set to end the copy: a broker that stops then waits for one piece at most.
        self.is_given_up = False

    @translated
    def begin(self) -> None:
        """Keeps what an earlier attempt has finished, and removes the rest of it."""
        if not self.target.is_dir():
            self.filesystem.mkdir(self.target)
        for path in sorted(self.target.iterdir()):
            if path.name == PARTITION_METADATA:
                continue
            if self._is_whole(path):
                self.copied_bytes += path.stat().st_size
            else:
                self.filesystem.unlink(path)

    def _is_whole(self, copied: Path) -> bool:
        found = parse_segment_file(copied.name)
        if found is None or found[1:] != (LOG, ""):
            return False
        try:
            source = (self.source / copied.name).stat()
        except FileNotFoundError:
            return False
        target = copied.stat()
        return (source.st_size, source.st_mtime_ns) == (target.st_size, target.st_mtime_ns)

    @translated
    def copy_parts(self, parts: Sequence[Part]) -> None:
        """Copies segments while the log is still written to."""
        for part in parts:
            log = part.base_name + LOG
            if log in self._finished:
                continue
            self._extend(log, part.size_bytes)
            if part.is_sealed:
                for path in self.source.glob(f"{part.base_name}.*index"):
                    self._copy(path)
                found = (self.source / log).stat()
                if found.st_size == part.size_bytes:
                    os.utime(self.target / log, ns=(found.st_atime_ns, found.st_mtime_ns))
                self._finished.add(log)

    @translated
    def copy_rest(self) -> None:
        """Copies all that is missing, once the log is closed."""
        for path in sorted(self.source.iterdir()):
            found = parse_segment_file(path.name)
            if path.name in self._finished or path.name.endswith((DELETED, TEMPORARY)) or not path.is_file():
                continue  # files that only wait to be unlinked stay behind
            if found is not None and found[1:] == (LOG, ""):
                self._extend(path.name, path.stat().st_size)
            elif path.name != PARTITION_METADATA or not (self.target / path.name).exists():
                self._copy(path)
        self.filesystem.sync_path(self.target)

    def _extend(self, name: str, end: int) -> None:
        """Goes on from the end of the copy, up to byte ``end`` (exclusive)."""
        with (self.source / name).open("rb") as source, (self.target / name).open("ab") as target:
            fd = target.fileno()
            position = os.fstat(fd).st_size
            if position == end > 0:
                return
            source.seek(position)
            for size_bytes in self._stream(source, fd, position, end):
                self.copied_bytes += size_bytes
            self.filesystem.fdatasync(fd)

    def _copy(self, path: Path) -> None:
        fd = self.filesystem.create(self.target / path.name)
        try:
            with path.open("rb") as source:
                for _ in self._stream(source, fd, 0, os.fstat(source.fileno()).st_size):
                    pass
            self.filesystem.fsync(fd)
        finally:
            os.close(fd)

    def _stream(self, source: BinaryIO, target_fd: int, position: int, end: int) -> Iterator[int]:
        """Copies bytes [``position``, ``end``) in pieces to the same position; yields the size of each."""
        while position < end:
            if self.is_given_up:
                raise StorageError("given up")
            piece = source.read(min(PIECE_BYTES, end - position))
            if not piece:
                raise StorageError(f"{source.name} is shorter than it was")
            self.filesystem.write_at(target_fd, piece, position)
            position += len(piece)
            yield len(piece)
