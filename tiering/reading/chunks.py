"""Chunks: ranges of objects that are in memory or on their way, and how large the next one is to be. Pure.

A chunk holds the bytes [start, end) of one object's data, of any length. Chunks of an object never overlap, so readers
at different positions share them: a new chunk ends where the next one begins.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from typing import NamedTuple

from tiering.codec import CRC_CHUNK_BYTES
from tiering.model import SegmentEntry
from tiering.reading.holding import Chunk

CHUNK_BYTES = 4 << 20
READAHEAD_BYTES_MAX = 128 << 20
# A stream that waits for memory gets what it has lately read in so much time: a slow one must not hold much for long.
PACE_S = 3.0


class ChunkMap:
    """All chunks by object and position."""

    def __init__(self) -> None:
        self._by_object: dict[bytes, list[Chunk]] = {}

    def __iter__(self) -> Iterator[Chunk]:
        for chunks in self._by_object.values():
            yield from chunks

    def find(self, uuid: bytes, position: int) -> Chunk | None:
        """The chunk that holds the byte at ``position``."""
        chunks = self._by_object.get(uuid)
        if chunks is None:
            return None
        at = bisect_right(chunks, position, key=_start) - 1
        return chunks[at] if at >= 0 and position < chunks[at].end else None

    def gap(self, uuid: bytes, position: int, start: int, end: int) -> tuple[int, int]:
        """The part of [start, end) around ``position``, which no chunk holds, up to the chunks at either side."""
        chunks = self._by_object.get(uuid, [])
        at = bisect_right(chunks, position, key=_start)
        if at > 0:
            start = max(start, chunks[at - 1].end)
        if at < len(chunks):
            end = min(end, chunks[at].start)
        return start, end

    def add(self, chunk: Chunk) -> None:
        insort(self._by_object.setdefault(chunk.entry.uuid, []), chunk, key=_start)

    def remove(self, chunk: Chunk) -> None:
        chunks = self._by_object[chunk.entry.uuid]
        chunks.remove(chunk)
        if not chunks:
            del self._by_object[chunk.entry.uuid]


def _start(chunk: Chunk) -> int:
    return chunk.start


class RangeSizes(NamedTuple):
    """How many bytes one GET asks for: few GETs where memory allows, parallel ones where many share it."""

    budget_bytes: int
    least_bytes: int
    most_bytes: int

    @staticmethod
    def of(budget_bytes: int, chunk_bytes: int) -> RangeSizes:
        """``chunk_bytes`` where the budget holds 16 of them, twice as much for a few streams: one stream needs that many GETs
        at once to read faster than one connection."""
        least = max(_whole(min(chunk_bytes, budget_bytes // 16)), CRC_CHUNK_BYTES)
        return RangeSizes(budget_bytes, least, max(_whole(min(2 * chunk_bytes, budget_bytes // 16)), least))

    def usual(self, front_count: int, bytes_per_second: int) -> int:
        """For ``front_count`` places that are read at. A quota (0: none) allows what it passes in a second."""
        size = min(max(self.budget_bytes // (4 * front_count), self.least_bytes), self.most_bytes)
        if bytes_per_second:
            size = min(size, bytes_per_second)
        return max(_whole(size), CRC_CHUNK_BYTES)

    def paced(self, usual_bytes: int, front_count: int, pace_bytes_per_s: float) -> int:
        """For one stream: less than usual if it reads slowly and others wait for memory. Pace 0: not known."""
        if not pace_bytes_per_s or usual_bytes * front_count <= self.budget_bytes:
            return usual_bytes
        return min(usual_bytes, max(_whole(int(pace_bytes_per_s * PACE_S)), CRC_CHUNK_BYTES))


def _whole(size_bytes: int) -> int:
    return size_bytes // CRC_CHUNK_BYTES * CRC_CHUNK_BYTES


def range_from(entry: SegmentEntry, position: int, size_bytes: int, needed_end: int) -> tuple[int, int]:
    """The range [start, end) to load for a reader at ``position``, of about ``size_bytes``, up to ``needed_end`` at
    least. It begins and ends at checksummed blocks; a small rest of the object is taken along."""
    start = _whole(position)
    end = start + size_bytes
    if position - start > size_bytes // 2:
        end += CRC_CHUNK_BYTES
    end = max(end, -(-needed_end // CRC_CHUNK_BYTES) * CRC_CHUNK_BYTES)
    if entry.data_bytes - end <= size_bytes // 2:
        end = entry.data_bytes
    return start, end


def aligned(chunk: Chunk) -> tuple[int, int]:
    """The checksummed blocks that hold the chunk, as the range [first, last)."""
    last = min(-(-chunk.end // CRC_CHUNK_BYTES) * CRC_CHUNK_BYTES, chunk.entry.data_bytes)
    return _whole(chunk.start), last
