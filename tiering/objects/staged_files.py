"""Objects of the directory store that are being written, under ``<root>/.tmp``.

Each file is flocked by its writer, so whoever opens the store next can tell the leftovers of a dead writer from the
work of a live one (several brokers may share a root). A long stream is written back to the disk while it is being
written.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tiering.errors import StoreFull, Unavailable
from tiering.objects.file_errors import info_of, translated
from tiering.objects.port import Buffer, ObjectInfo, UploadInfo

WRITEBACK_BYTES = 32 * 1024 * 1024  # A long stream never leaves more dirty pages than this behind.
WRITE_BYTES = 256 * 1024
"""Of one system call: a longer one would keep its core from others, where the kernel does not preempt itself."""
_IOV_MAX = 512


class StagedFile:
    """An object being written, invisible until ``publish``. Either ``publish`` or ``discard`` ends it; both may be
    called in any state, even while another thread is still inside ``write``."""

    def __init__(self, directory: Path, key: str, size_bytes: int, durable: bool) -> None:
        self.key = key
        self.path: Path | None = None
        self._directory = directory
        self._size_bytes = size_bytes
        self._durable = durable
        self._lock = threading.Lock()
        self._fd = -1
        self._over = False
        self._written_bytes = self._synced_bytes = 0

    def _open(self) -> int:
        """The descriptor; the file is created by the first use, so that making the object never blocks."""
        if self._over:
            raise Unavailable("the write was given up", key=self.key)
        if self._fd < 0:
            space = os.statvfs(self._directory)
            if space.f_bavail * space.f_frsize < self._size_bytes:
                raise StoreFull(f"less than {self._size_bytes} bytes are free", key=self.key)
            self.path, self._fd = _create_locked(self._directory)
        return self._fd

    def write(self, buffers: Sequence[Buffer]) -> None:
        with self._lock, translated(self.key):
            fd = self._open()
            for pending in _batches(buffers):
                while pending:
                    count = os.writev(fd, pending)
                    self._written_bytes += count
                    while pending and count >= len(pending[0]):
                        count -= len(pending.pop(0))
                    if count:
                        pending[0] = pending[0][count:]
            if self._durable and self._written_bytes - self._synced_bytes >= WRITEBACK_BYTES:
                os.fdatasync(fd)
                self._drop_from_page_cache(fd)

    def _drop_from_page_cache(self, fd: int) -> None:
        """Drop the pages that reached the disk: an upload must not evict the pages that consumers read."""
        length = self._written_bytes - self._synced_bytes
        if length:  # Zero would mean "to the end".
            os.posix_fadvise(fd, self._synced_bytes, length, os.POSIX_FADV_DONTNEED)
        self._synced_bytes = self._written_bytes

    def seal(self) -> tuple[Path, ObjectInfo]:
        """Call when everything is written: makes the bytes durable, and the mtime (part of the version) unique."""
        with self._lock, translated(self.key):
            fd = self._open()
            assert self.path is not None
            now_ns = time.time_ns()
            os.utime(fd, ns=(now_ns, now_ns))
            if self._durable:
                os.fsync(fd)
                self._drop_from_page_cache(fd)
            return self.path, info_of(self.key, os.fstat(fd))

    def discard(self) -> None:
        with self._lock:
            self._over = True
            if self._fd >= 0 and self.path is not None:
                os.close(self._fd)
                self._fd = -1
                with suppress(OSError):
                    self.path.unlink()


def _batches(buffers: Sequence[Buffer]) -> Iterator[list[memoryview]]:
    """The same bytes in lists of at most ``WRITE_BYTES`` and ``_IOV_MAX`` buffers."""
    batch, batch_bytes = list[memoryview](), 0
    for each in buffers:
        view = memoryview(each).cast("B")
        while len(view):
            piece = view[: WRITE_BYTES - batch_bytes]
            batch.append(piece)
            batch_bytes += len(piece)
            view = view[len(piece) :]
            if batch_bytes == WRITE_BYTES or len(batch) == _IOV_MAX:
                yield batch
                batch, batch_bytes = [], 0
    if batch:
        yield batch


def _create_locked(directory: Path) -> tuple[Path, int]:
    """A new temporary file whose lock this process holds."""
    while True:
        path = directory / uuid.uuid4().hex
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:  # Otherwise a cleaner removed it in the instant before it was locked.
            return path, fd
        os.close(fd)


def leftovers(directory: Path) -> list[UploadInfo]:
    """The files whose writers are dead."""
    found = []
    for path in directory.iterdir():
        with suppress(FileNotFoundError, BlockingIOError), _taken_over(path) as fd:
            found.append(UploadInfo("", path.name, int(os.fstat(fd).st_mtime * 1_000)))
    return found


def remove_leftover(directory: Path, name: str) -> None:
    """Remove one of them; none that is being written."""
    path = directory / name
    if path.parent == directory:
        with suppress(FileNotFoundError, BlockingIOError), _taken_over(path):
            path.unlink()


@contextmanager
def _taken_over(path: Path) -> Iterator[int]:
    """Raises ``BlockingIOError`` while a live writer holds the file."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)
