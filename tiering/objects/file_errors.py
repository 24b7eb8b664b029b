"""Translates the operating system's file errors into the port's errors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tiering.errors import AccessDenied, InvalidKey, NotFound, ObjectStoreError, StoreFull, Unavailable
from tiering.objects.classes import StorageClass
from tiering.objects.port import ObjectInfo

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NOT_A_KEY = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP})


@contextmanager
def translated(key: str = "") -> Iterator[None]:
    """The one place where an ``OSError`` becomes an ``ObjectStoreError``."""
    try:
        yield
    except OSError as error:
        kind: type[ObjectStoreError] = Unavailable
        if error.errno == errno.ENOENT:
            kind = NotFound
        elif error.errno in _FULL:
            kind = StoreFull
        elif error.errno in _DENIED:
            kind = AccessDenied
        elif error.errno in _NOT_A_KEY:
            kind = InvalidKey
        raise kind(error.strerror or type(error).__name__, key=key) from error


def info_of(key: str, status: os.stat_result) -> ObjectInfo:
    version = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(key, status.st_size, version, status.st_mtime_ns // 1_000_000, StorageClass.STANDARD)
