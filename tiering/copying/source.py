"""The range of a local segment file that is to become an object, and how its bytes are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tiering.codec import AbortedTransaction
from tiering.errors import TieringError


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


class SegmentFile:
    """The file of a source, open for reading. Positions are relative to the range; any thread may read."""

    def __init__(self, source: SegmentSource) -> None:
        self._source = source
        self._fd = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, position: int, size_bytes: int) -> bytes:
        """Exactly these bytes. Raises ``CorruptSource`` if the file is shorter, ``OSError``.

        At most about a MiB is good: a system call keeps its core from others, where the kernel does not preempt itself;
        and a buffer of this size comes back warm from the allocator, where a larger one is new pages."""
        start = self._source.start_position + position
        part = os.pread(self._fd, size_bytes, start)
        while len(part) < size_bytes:
            more = os.pread(self._fd, size_bytes - len(part), start + len(part))
            if not more:
                raise CorruptSource(f"{self._source.path}: ends before byte {start + size_bytes}")
            part += more
        return part
