"""Which bytes a read needs, in chunks, and how far to read ahead. Pure arithmetic.

A chunk is an aligned range of ``chunk_bytes`` of an object's data (the last one shorter). ``chunk_bytes`` is
a multiple of the footer's CRC chunk, so that every chunk can be verified by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tiering.catalog import Catalog
from tiering.model import SegmentEntry

CHUNK_BYTES = 4 << 20
READAHEAD_BYTES_MAX = 32 << 20
READAHEAD_FACTOR = 4
"""Read ahead this many times what the reader has taken in sequence so far."""


class ChunkRef(NamedTuple):
    """Chunk ``number`` of the object of ``entry``."""

    entry: SegmentEntry
    number: int

    @property
    def key(self) -> tuple[bytes, int]:
        """Objects never change, so uuid and number name the bytes for ever."""
        return self.entry.uuid, self.number


def chunk_range(ref: ChunkRef, chunk_bytes: int) -> tuple[int, int]:
    """Byte range [start, end) of the chunk in its object."""
    start = ref.number * chunk_bytes
    return start, min(start + chunk_bytes, ref.entry.data_bytes)


def chunk_of(entry: SegmentEntry, position: int, chunk_bytes: int) -> ChunkRef:
    return ChunkRef(entry, position // chunk_bytes)


def chunks_ahead(
    catalog: Catalog, entry: SegmentEntry, position: int, ahead_bytes: int, stop_offset: int, chunk_bytes: int
) -> Iterator[ChunkRef]:
    """Chunks that hold ``[position, position + ahead_bytes)``, across segment borders, up to the segment that
    holds ``stop_offset`` (what lies behind is read locally)."""
    left = ahead_bytes
    following: SegmentEntry | None = entry
    while following is not None and left > 0 and following.base_offset < stop_offset:
        number = position // chunk_bytes
        while left > 0 and number * chunk_bytes < following.data_bytes:
            ref = ChunkRef(following, number)
            yield ref
            start, end = chunk_range(ref, chunk_bytes)
            left -= end - max(start, position)
            number += 1
        position = 0
        following = catalog.next(following)


@dataclass(slots=True)
class Stream:
    """A reader that was seen to read in sequence: where it will go on, and how much it took."""

    entry: SegmentEntry
    position: int
    """Byte position in the entry's object of the batch that the next read begins with."""
    served_bytes: int
    """Taken in sequence so far."""
    pressure_seen: int
    """The cache's count of chunks evicted unread when the stream last read."""
    shrink: int = 0
    """How often the window was halved because read-ahead was evicted unread."""

    def note_pressure(self, unread_evictions: int) -> None:
        if unread_evictions != self.pressure_seen:
            self.shrink = min(self.shrink + 1, 5)
            self.pressure_seen = unread_evictions
        elif self.shrink:
            self.shrink -= 1


def readahead_window(served_bytes: int, shrink: int, chunk_bytes: int, window_bytes_max: int) -> int:
    """Bytes to hold ready in front of a reader: grows with what it took, halves under memory pressure."""
    window = min(max(READAHEAD_FACTOR * served_bytes, chunk_bytes), window_bytes_max)
    return max(window >> shrink, chunk_bytes)
