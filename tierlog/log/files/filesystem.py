"""The only way this package changes a disk: a table of system calls, and the translation of their failures.

Tests hand in another ``Filesystem`` that fails, writes short or stops at the k-th call. The real one is a
table of the ``os`` functions themselves, so that the hot path pays nothing for the seam.
Reads are not part of it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from tierlog.errors import DiskFull, StorageError
from tierlog.types import Buffer

P = ParamSpec("P")
R = TypeVar("R")

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_SYNC_FILE_RANGE_WRITE = 2
_OPEN_FLAGS = os.O_RDWR | os.O_CLOEXEC


def is_no_space(error: OSError) -> bool:
    """No space or no quota: nothing is broken, and space may come back."""
    return error.errno in _NO_SPACE


def storage_error(error: OSError, where: Path | str) -> StorageError:
    """``DiskFull`` for no space or quota, else ``StorageError``; with the path in one line."""
    family = DiskFull if is_no_space(error) else StorageError
    return family(f"{where}: {error.strerror or error}")


def translated(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator for public calls off the hot path: OSError leaves the package as StorageError."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            where = error.filename or next((str(each) for each in args if isinstance(each, Path)), None)
            raise storage_error(error, where or function.__name__) from error

    return call


class Filesystem:
    """Stateless; one shared ``REAL``."""

    pwrite = staticmethod(os.pwrite)
    truncate = staticmethod(os.ftruncate)
    fdatasync = staticmethod(os.fdatasync if hasattr(os, "fdatasync") else os.fsync)
    fsync = staticmethod(os.fsync)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    mkdir = staticmethod(os.mkdir)

    def create(self, path: Path) -> int:
        """A file open for reading and writing; an existing one is emptied."""
        return os.open(path, _OPEN_FLAGS | os.O_CREAT | os.O_TRUNC, 0o644)

    def allocate(self, fd: int, size_bytes: int) -> None:
        os.posix_fallocate(fd, 0, size_bytes)

    def unlink_if_there(self, path: Path) -> None:
        try:
            self.unlink(path)
        except FileNotFoundError:
            return

    def rename_if_there(self, source: Path, target: Path) -> bool:
        try:
            self.rename(source, target)
        except FileNotFoundError:
            return False
        return True

    def write_at(self, fd: int, data: Buffer, position: int) -> None:
        """Write all of ``data`` or raise OSError; the kernel may write a part first and give the reason at the next call."""
        view = memoryview(data)
        while view:
            written = self.pwrite(fd, view, position)
            if written <= 0:
                raise OSError(errno.EIO, "nothing written")
            view = view[written:]
            position += written

    def append_to(self, path: Path, data: Buffer, position: int) -> None:
        """Write at ``position`` and cut the file off behind the data. The file need not exist."""
        fd = os.open(path, _OPEN_FLAGS | os.O_CREAT, 0o644)
        try:
            self.write_at(fd, data, position)
            if os.fstat(fd).st_size != position + len(data):
                self.truncate(fd, position + len(data))
        finally:
            os.close(fd)

    def write_file(self, path: Path, data: Buffer, *, durable: bool) -> None:
        """Replace the whole file: a reader sees the old or the new one. ``durable``: fsync of file and directory."""
        temporary = path.with_name(path.name + ".tmp")
        fd = self.create(temporary)
        try:
            self.write_at(fd, data, 0)
            if durable:
                self.fsync(fd)
        except OSError:
            with suppress(OSError):
                self.unlink(temporary)
            raise
        finally:
            os.close(fd)
        self.rename(temporary, path)
        if durable:
            self.sync_path(path.parent)

    def truncate_path(self, path: Path, size_bytes: int) -> None:
        fd = os.open(path, _OPEN_FLAGS)
        try:
            self.truncate(fd, size_bytes)
        finally:
            os.close(fd)

    def sync_path(self, path: Path) -> None:
        """fsync of a file or directory by name; one that no longer exists needs none."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            self.fsync(fd)
        finally:
            os.close(fd)


REAL = Filesystem()


class Descriptor:
    """An open file that lives as long as somebody refers to it.

    A reader in a thread holds it through its Slice; dropping a segment drops only the segment's reference. So the
    descriptor is never closed, and its number never reused for another file, while somebody reads.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def open(cls, path: Path) -> Descriptor:
        return cls(os.open(path, _OPEN_FLAGS))

    def __del__(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    function.restype = ctypes.c_int
    return function


_start_writeback = _sync_file_range()


def start_writeback(fd: int, position: int, size_bytes: int) -> None:
    """Ask the kernel to begin writing dirty pages; no promise, no wait for the disk. May block on a full queue:
    call it in a thread."""
    if _start_writeback is not None:
        _start_writeback(fd, position, size_bytes, _SYNC_FILE_RANGE_WRITE)
