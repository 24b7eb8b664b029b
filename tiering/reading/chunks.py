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


def chunks_ahead(
    catalog: Catalog, entry: SegmentEntry, position: int, ahead_bytes: int, stop_offset: int, chunk_bytes: int
) -> Iterator[ChunkRef]:
    """Chunks that hold ``[position, position + ahead_bytes)``, across segment borders, up to the segment that holds
    ``stop_offset`` (later offsets are read locally)."""
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
    """A reader that reads in sequence: where it will go on, and how far to read ahead of it.

    The window opens with the first sequential read and doubles each time the reader reaches a chunk that is not there
    yet. So it settles at what the store's latency needs (a fast store keeps few chunks in memory, still warm in the
    processor's cache). It halves when the cache had to evict unread chunks."""

    entry: SegmentEntry
    position: int
    """Byte position, in the entry's object, of the batch where the next read begins."""
    window_bytes: int
    """Bytes to hold ready in front of the reader; 0 until it has read in sequence."""
    unread_evictions: int
    """The cache's count of chunks evicted unread when the stream last read."""


def next_window(
    previous: Stream | None,
    *,
    has_waited: bool,
    unread_evictions: int,
    chunk_bytes: int,
    window_bytes_max: int,
) -> int:
    """Window of a reader after one more read; ``previous`` is its stream if the read was sequential."""
    if previous is None:
        return 0
    window = max(previous.window_bytes, chunk_bytes)
    if unread_evictions != previous.unread_evictions:
        window //= 2
    elif has_waited and previous.window_bytes:
        window *= 2
    return max(chunk_bytes, min(window, window_bytes_max))
