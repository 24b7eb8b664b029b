"""The sparse indexes of a segment: offset -> position, timestamp -> offset. Kafka's file formats.

An entry of the *offset index* is (offset - base, position), 8 bytes: the last offset of a batch and where that batch
starts. One of the *time index* is (timestamp, offset - base), 12 bytes: the largest timestamp so far and the last offset of
the batch that holds it. Both grow strictly in every column.

The file is written in steps of ``TAIL_BYTES`` and when the segment is sealed. Entries not yet written are in memory
only; after an unclean stop they are rebuilt from the log. Reads go through a map of the written part, made at the
first read, so an index costs page cache, not heap.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import ClassVar

from tierlog.log.files.filesystem import Filesystem

TAIL_BYTES = 4096
MAX_RELATIVE_OFFSET = 2**31 - 1


class CorruptIndex(ValueError):
    """The file cannot be an index of this segment; it is rebuilt from the log."""


class SparseIndex:
    """The common part of both kinds: entries of layout ``ENTRY`` with the search column first."""

    ENTRY: ClassVar[Struct]
    tail_bytes: ClassVar[int] = TAIL_BYTES
    __slots__ = (
        "_last",
        "_map",
        "_tail",
        "_written_bytes",
        "base_offset",
        "count",
        "filesystem",
        "max_bytes",
        "path",
    )

    def __init__(self, filesystem: Filesystem, path: Path, base_offset: int, max_bytes: int) -> None:
        self.filesystem = filesystem
        self.path = path
        self.base_offset = base_offset
        self.max_bytes = max_bytes
        self.count = 0
        self._written_bytes = 0  # bytes of the file that hold entries; the tail follows them
        self._tail = bytearray()
        self._map: mmap.mmap | None = None
        # The last entry, kept so that an append reads nothing from the file.
        self._last: tuple[int, int] | None = None

    def load(self) -> None:
        """Take over the file as it is. Raises CorruptIndex, FileNotFoundError."""
        size = os.stat(self.path).st_size
        if size % self.ENTRY.size:
            raise CorruptIndex(f"{self.path.name}: {size} bytes")
        self._map = None
        self._tail.clear()
        self._written_bytes = size
        self.count = size // self.ENTRY.size
        self._last = self.entry(self.count - 1) if self.count else None
        if self.count:
            self._check_ends()

    def _check_ends(self) -> None:
        raise AssertionError("each kind checks its own columns")

    def reset(self) -> None:
        """Empty the index, in memory and on disk."""
        self._map = None
        self._tail.clear()
        self._written_bytes = 0
        self.count = 0
        self._last = None
        os.close(self.filesystem.create(self.path))

    def drop_map(self) -> None:
        """Close the map and its descriptor; the next read makes them again."""
        self._map = None

    def write_out(self) -> None:
        if self._tail:
            self.filesystem.append_to(self.path, self._tail, self._written_bytes)
            self._written_bytes += len(self._tail)
            self._tail = bytearray()

    def entry(self, index: int) -> tuple[int, int]:
        """(first column, second column) as stored."""
        at = index * self.ENTRY.size
        if at >= self._written_bytes:
            first, second = self.ENTRY.unpack_from(self._tail, at - self._written_bytes)
        else:
            first, second = self.ENTRY.unpack_from(self._written(), at)
        return first, second

    def _written(self) -> mmap.mmap:
        mapped = self._map
        if mapped is None or len(mapped) < self._written_bytes:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                mapped = self._map = mmap.mmap(fd, self._written_bytes, access=mmap.ACCESS_READ)
            finally:
                os.close(fd)
        return mapped

    def _count_up_to(self, value: int, column: int) -> int:
        """How many leading entries have ``column`` <= ``value``."""
        size, written = self.ENTRY.size, self._written_bytes
        low, high = 0, self.count
        source: mmap.mmap | bytearray
        if len(self._tail) and self.ENTRY.unpack_from(self._tail, 0)[column] <= value:
            source, shift, low = self._tail, written, written // size
        elif written:
            source, shift, high = self._written(), 0, written // size
        else:
            return 0
        unpack = self.ENTRY.unpack_from
        while low < high:
            middle = (low + high) >> 1
            if unpack(source, middle * size - shift)[column] <= value:
                low = middle + 1
            else:
                high = middle
        return low

    def _keep(self, count: int) -> None:
        kept = count * self.ENTRY.size
        if kept < self._written_bytes:
            self._map = None
            self.filesystem.truncate_path(self.path, kept)
            self._written_bytes = kept
            self._tail.clear()
        else:
            del self._tail[kept - self._written_bytes :]
        self.count = count
        self._last = self.entry(count - 1) if count else None

    def _append(self, first: int, second: int) -> None:
        tail = self._tail
        tail += self.ENTRY.pack(first, second)
        self.count += 1
        self._last = (first, second)
        if len(tail) >= self.tail_bytes:
            # The batch is in the log already, so a full disk must not fail its append: the tail stays in memory
            # and is tried again with the next entry; sealing and closing report what still fails.
            with suppress(OSError):
                self.write_out()


class OffsetIndex(SparseIndex):
    """Last offset of a batch (inclusive) -> byte position of the batch in the ``.log`` file."""

    ENTRY = Struct(">ii")
    __slots__ = ()

    @property
    def is_full(self) -> bool:
        return self.count >= self.max_bytes // 8

    def append(self, last_offset: int, position: int) -> None:
        """Last offset and start position of a batch; both must be above those of the entry before."""
        self._append(last_offset - self.base_offset, position)

    def floor_position(self, offset: int) -> int:
        """Start of a batch at or before the one that holds ``offset``; 0 when no entry is that low."""
        count = self._count_up_to(offset - self.base_offset, 0)
        return self.entry(count - 1)[1] if count else 0

    def boundary_at_or_below(self, position: int) -> int:
        """The last indexed batch start that is <= ``position``; 0 when there is none."""
        count = self._count_up_to(position, 1)
        return self.entry(count - 1)[1] if count else 0

    def last_position(self) -> int:
        return self._last[1] if self._last else 0

    def truncate_to(self, offset: int) -> None:
        """Keep only entries of offsets below ``offset``."""
        self._keep(self._count_up_to(offset - self.base_offset - 1, 0))

    def _check_ends(self) -> None:
        offset, position = self.entry(self.count - 1)
        if (
            offset <= 0 or position <= 0
        ):  # the batch at position 0 is never indexed, so zeros are a preallocated tail
            raise CorruptIndex(f"{self.path.name}: last entry ({offset}, {position})")


class TimeIndex(SparseIndex):
    """Largest timestamp so far -> last offset of the batch that holds it."""

    ENTRY = Struct(">qi")
    __slots__ = ()

    @property
    def is_full(self) -> bool:
        """One slot is reserved for the entry that sealing the segment adds."""
        return self.count >= self.max_bytes // 12 - 1

    def append(self, timestamp: int, offset: int) -> None:
        """Ignored unless the timestamp is above that of the last entry."""
        if timestamp > self.last()[0] and offset - self.base_offset >= 0:
            self._append(timestamp, offset - self.base_offset)

    def last(self) -> tuple[int, int]:
        """(timestamp, offset); (-1, base offset) when empty."""
        if self._last is None:
            return -1, self.base_offset
        timestamp, relative = self._last
        return timestamp, relative + self.base_offset

    def floor_offset(self, timestamp: int) -> int:
        """The offset of the last entry with a timestamp <= ``timestamp``; the base offset when there is none."""
        count = self._count_up_to(timestamp, 0)
        return self.entry(count - 1)[1] + self.base_offset if count else self.base_offset

    def truncate_to(self, offset: int) -> None:
        self._keep(self._count_up_to(offset - self.base_offset - 1, 1))

    def _check_ends(self) -> None:
        timestamp, offset = self.entry(self.count - 1)
        if offset < 0 or timestamp < self.entry(0)[0]:
            raise CorruptIndex(f"{self.path.name}: last entry ({timestamp}, {offset})")
