"""The range of a local segment file that is to become an object, and how its bytes are read."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tiering.codec import AbortedTransaction
from tiering.errors import TieringError

_POPULATE_READ = 22
"""Linux's MADV_POPULATE_READ: reads the pages now, so that a bad disk is an error here and no SIGBUS later."""

_STEP_BYTES = 1 << 20
"""Of one system call, during which the core is nobody else's where the kernel does not preempt itself."""


class CorruptSource(TieringError):
    """The local bytes are damaged or inconsistent: the segment must not be copied, and trying again cannot
    help."""


@dataclass(frozen=True, slots=True)
class SegmentSource:
    """A byte range of one local segment file, with the facts that the file itself does not hold.

    The range starts with the batch that holds ``base_offset``, or the next one, and ends with the last batch below
    ``end_offset``: compaction leaves holes between batches and at both ends. The file is sealed and must not change
    while it is copied."""

    path: str
    start_position: int
    end_position: int
    base_offset: int
    """The tiered end: the first offset that the new object covers."""
    end_offset: int
    """Exclusive: the next segment's base offset."""
    lineage: Sequence[tuple[int, int]]
    """(leader epoch, start offset) from the log start on; entries at or behind ``end_offset`` are cut off."""
    aborted: Sequence[AbortedTransaction] = ()
    """Every aborted transaction that overlaps the range, wherever its marker lies."""
    producer_snapshot: bytes = b""
    """Kafka's producer snapshot file as of ``end_offset``, verbatim."""
    is_mapped: bool = False
    """Read through mapped memory, without a copy. Only in a process that may die: a page that the disk cannot give any more,
    or that was cut off, ends it (SIGBUS)."""


class SegmentFile:
    """The file of a source, open for reading. Positions are relative to the range; any thread may read."""

    def __init__(self, source: SegmentSource) -> None:
        self._source = source
        self._fd = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, position: int, size_bytes: int) -> memoryview:
        """Exactly these bytes; a mapped slice is given back with its last view. Raises ``CorruptSource`` if the file is
        shorter, ``OSError``."""
        start = self._source.start_position + position
        if self._source.is_mapped:
            return self._mapped(start, size_bytes)
        part = os.pread(self._fd, size_bytes, start)
        while len(part) < size_bytes:
            more = os.pread(self._fd, size_bytes - len(part), start + len(part))
            if not more:
                raise self._too_short(start + size_bytes)
            part += more
        return memoryview(part)

    def _mapped(self, start: int, size_bytes: int) -> memoryview:
        if os.fstat(self._fd).st_size < start + size_bytes:
            raise self._too_short(start + size_bytes)
        before = start % mmap.ALLOCATIONGRANULARITY
        pages = mmap.mmap(self._fd, before + size_bytes, access=mmap.ACCESS_READ, offset=start - before)
        try:
            for at in range(0, len(pages), _STEP_BYTES):
                pages.madvise(_POPULATE_READ, at, min(_STEP_BYTES, len(pages) - at))
        except OSError:  # An older kernel, or a bad disk: this finds out.
            os.preadv(self._fd, [bytearray(size_bytes)], start)
        return memoryview(pages)[before:]

    def _too_short(self, end: int) -> CorruptSource:
        return CorruptSource(f"{self._source.path}: ends before byte {end}")
