"""Settings of the broker's process: how memory is kept, and how many files may be open."""

from __future__ import annotations

import contextlib
import ctypes
import resource
from pathlib import Path

# glibc's mallopt parameters.
M_ARENA_MAX = -8
M_MMAP_THRESHOLD = -3
M_TRIM_THRESHOLD = -1
MMAP_THRESHOLD_BYTES = 32 * 1024 * 1024
TRIM_THRESHOLD_BYTES = 64 * 1024 * 1024


def tune_allocator() -> None:
    """One heap for all threads, and buffers of a few MiB kept in it.

    glibc's heap per thread would keep what chunk and upload buffers once needed; its default of mapping each large buffer
    anew makes the kernel clear every page of every reply (measured: 0.5 CPU s per GB read).
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)


def raise_descriptor_limit() -> None:
    """Takes as many descriptors as the system allows: each log needs one, and what is being read needs more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def boot_id() -> str:
    """Identifies this boot of this machine: brokers with the same boot id lose unsynced data together."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
