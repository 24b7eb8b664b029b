"""Memory that a command no longer needs goes back to the system soon.

Columns and pieces of objects are some MiB each, and come and go in threads. Arrow's usual pool, and glibc with an arena for
each thread, keep so much of them that a command which needs 250 MB holds 350. jemalloc gives back what lies idle for a
second, and one arena is used again by whichever thread comes next. That costs a tenth of the processor time at most.
"""

from __future__ import annotations

import os
import sys

_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


def give_back() -> None:
    """For this process, from now on: before it has threads, and before it imports numpy and pyarrow. Where there is no glibc
    it holds somewhat more."""
    if sys.platform != "linux":
        return
    import ctypes

    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
