"""Files of the directory store that stay open between ranged reads: no open and no path walk per chunk."""

from __future__ import annotations

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from tiering.errors import NotFound

OPEN_FILES_MAX = 256


class _OpenFile:
    __slots__ = ("evicted", "fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0
        self.evicted = False


class OpenFiles:
    """At most ``capacity`` files kept open for reading (more only while reads are inside them).

    Invariant: a descriptor is closed exactly once, when it is evicted and nobody uses it.
    """

    def __init__(self, capacity: int = OPEN_FILES_MAX) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()

    @contextmanager
    def opened(self, key: str, path: str) -> Iterator[int]:
        """The descriptor of a regular file that still has its name, never of one that was deleted or
        replaced."""
        entry = self._acquire(key)
        if entry is not None and not os.fstat(entry.fd).st_nlink:
            self._release(entry)
            self.forget(key)
            entry = None
        if entry is None:
            entry = self._open(key, path)
        try:
            yield entry.fd
        finally:
            self._release(entry)

    def _acquire(self, key: str) -> _OpenFile | None:
        with self._lock:
            entry = self._files.get(key)
            if entry is not None:
                self._files.move_to_end(key)
                entry.users += 1
            return entry

    def _open(self, key: str, path: str) -> _OpenFile:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotFound("a folder is not an object", key=key)
        entry = _OpenFile(fd)
        entry.users = 1
        with self._lock:
            self._evict(self._files.pop(key, None))  # Two threads opened it at once: the last one is kept.
            self._files[key] = entry
            while len(self._files) > self._capacity:
                self._evict(self._files.popitem(last=False)[1])
        return entry

    def _release(self, entry: _OpenFile) -> None:
        with self._lock:
            entry.users -= 1
            if entry.evicted and not entry.users:
                os.close(entry.fd)

    @staticmethod
    def _evict(entry: _OpenFile | None) -> None:
        if entry is not None:
            entry.evicted = True
            if not entry.users:
                os.close(entry.fd)

    def forget(self, key: str) -> None:
        with self._lock:
            self._evict(self._files.pop(key, None))

    def close(self) -> None:
        with self._lock:
            while self._files:
                self._evict(self._files.popitem()[1])
