"""Memory that is no longer needed goes back to the system at once.

Columns and pieces of objects are some MiB each, and come and go in threads. Arrow's own pool and glibc, whose limit for
memory that is given back grows with use, keep so much of them that a process which needs 250 MB holds 400.
"""

from __future__ import annotations

import ctypes

import pyarrow as pa

_M_MMAP_THRESHOLD = -3
"""Of glibc's malloc.h; a limit that is set does not grow."""
THRESHOLD_BYTES = 128 << 10


def give_back() -> None:
    """For this process, from now on. Without glibc only Arrow's part is done."""
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, THRESHOLD_BYTES)
