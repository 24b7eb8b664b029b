"""Files of the disk cache; everything here blocks, and runs on threads of ``cache``.

A file is written under a temporary name and then given its own. Nothing is synced: what a crash leaves fails its checksum.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tiering.batches import Buffer
from tiering.disk_cache.entries import (
    HEADER_BYTES,
    TEMPORARY,
    Place,
    encode_header,
    parse_name,
    verify,
)
from tiering.errors import CorruptObject, Misconfigured

LOCK = ".lock"


class Found(NamedTuple):
    """What a start finds. ``places``: whole files, the latest read first. ``broken_count``: files that were cut off."""

    places: list[Place]
    broken_count: int


class BadEntry(Exception):
    """The file at ``place`` is gone, cut off, foreign or damaged."""

    def __init__(self, place: Place, why: object) -> None:
        super().__init__(str(why))
        self.place = place


class CacheFiles:
    """The directory of one broker, locked as long as this is open."""

    def __init__(self, directory: Path, *, free_bytes_min: int = 0) -> None:
        """``free_bytes_min``: writing leaves so much of the file system to others."""
        self._directory = directory
        self._free_bytes_min = free_bytes_min
        self._lock_fd = -1

    def open(self, cluster_id: str, budget_bytes: int) -> Found:
        """Creates and locks the directory, removes what was left unfinished, lists the rest. Raises ``Misconfigured``."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock()
            space = os.statvfs(self._directory)
            disk_bytes = space.f_blocks * space.f_frsize
            if disk_bytes < budget_bytes + self._free_bytes_min:
                raise Misconfigured(
                    f"{budget_bytes} bytes are more than its disk has ({disk_bytes}, of which "
                    f"{self._free_bytes_min} stay free); set tierlog.remote.cache.max.bytes lower"
                )
            found = self._scan(cluster_id)
        except (OSError, Misconfigured) as error:
            self.close()
            if isinstance(error, OSError):
                why = error.strerror or type(error).__name__
                raise Misconfigured(f"{error.filename or self._directory}: {why}") from error
            raise
        return found

    def _lock(self) -> None:
        self._lock_fd = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Misconfigured(f"{self._directory} is used by another broker") from None

    def _scan(self, cluster_id: str) -> Found:
        """What lies there under other names than ours is left alone."""
        found: list[tuple[int, Place]] = []
        broken_count = 0
        with os.scandir(self._directory) as listing:
            for item in listing:
                place = parse_name(item.name, cluster_id)
                if place is None:
                    if item.name.startswith(TEMPORARY):
                        os.unlink(item.path)
                    continue
                status = item.stat(follow_symlinks=False)
                if status.st_size == HEADER_BYTES + place.end - place.start:
                    found.append((status.st_mtime_ns, place))
                else:
                    os.unlink(item.path)
                    broken_count += 1
        found.sort(key=lambda each: each[0], reverse=True)
        return Found([place for _, place in found], broken_count)

    def close(self) -> None:
        """Gives the directory free."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def write(self, place: Place, data: Buffer) -> None:
        """Raises OSError; then ``remove`` takes away what there is of it."""
        space = os.statvfs(self._directory)
        if space.f_bavail * space.f_frsize < self._free_bytes_min + place.file_bytes:
            raise OSError(errno.ENOSPC, f"less than {self._free_bytes_min} bytes would stay free")
        temporary = self._path(place, TEMPORARY)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            pending = [memoryview(encode_header(place, data)), memoryview(data).cast("B")]
            while pending:
                written = os.writev(fd, pending)
                while pending and written >= len(pending[0]):
                    written -= len(pending.pop(0))
                if written:
                    pending[0] = pending[0][written:]
            # Starts to write it to the disk, so that few pages are dirty at any time.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            _mark_used(fd)
        finally:
            os.close(fd)
        os.rename(temporary, self._path(place))

    def read(self, places: Sequence[Place], start: int, end: int) -> memoryview:
        """The bytes [start, end) of one object from files that hold them all, in order. Raises ``BadEntry``, OSError."""
        if len(places) == 1:
            with self._opened(places[0]) as fd:
                header = os.pread(fd, HEADER_BYTES, 0)
                data = os.pread(fd, end - start, HEADER_BYTES + start - places[0].start)
            _check(places[0], header, data, start, end)
            return memoryview(data)
        buffer = memoryview(bytearray(end - start))
        for place in places:
            first, last = max(place.start, start), min(place.end, end)
            into = buffer[first - start : last - start]
            with self._opened(place) as fd:
                header = os.pread(fd, HEADER_BYTES, 0)
                got = os.preadv(fd, [into], HEADER_BYTES + first - place.start)
            _check(place, header, into[:got], first, last)
        return buffer.toreadonly()

    @contextmanager
    def _opened(self, place: Place) -> Iterator[int]:
        try:
            fd = os.open(self._path(place), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BadEntry(place, "the file is gone") from None
        try:
            yield fd
            _mark_used(fd)
        finally:
            os.close(fd)

    def remove(self, places: Sequence[Place]) -> list[Place]:
        """Removes files, whole and unfinished ones. Returns those of which nothing is left."""
        gone = []
        for place in places:
            try:
                for before in ("", TEMPORARY):
                    with suppress(FileNotFoundError):
                        os.unlink(self._path(place, before))
            except OSError:
                continue
            gone.append(place)
        return gone

    def _path(self, place: Place, before: str = "") -> str:
        return f"{self._directory}/{before}{place.name}"


def _mark_used(fd: int) -> None:
    """For the order at the next start; the kernel's own mark is of milliseconds."""
    now_ns = time.time_ns()
    os.utime(fd, ns=(now_ns, now_ns))


def _check(place: Place, header: Buffer, data: Buffer, start: int, end: int) -> None:
    """Raises ``BadEntry`` unless ``data`` is all of [start, end), as it was written."""
    if len(data) != end - start:
        raise BadEntry(place, "the file is cut off")
    try:
        verify(place, header, data, start)
    except CorruptObject as error:
        raise BadEntry(place, error) from None
