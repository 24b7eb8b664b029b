"""Which ranges of a segment object are asked for. Pure.

GETs begin at the chunks that the footer has checksums of. The footer is asked for first; a small object comes at once.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from tiering.codec import SegmentFooter

GET_BYTES = 4 << 20
"""A GET of this size takes about as long to arrive as to begin, at 30 ms and 90 MB/s; larger ones only take memory."""


class Range(NamedTuple):
    """Bytes [start, end) of an object."""

    start: int
    end: int


def is_small(object_bytes: int) -> bool:
    """Whether one GET fetches the whole object."""
    return object_bytes <= GET_BYTES


def get_count(data_bytes: int, is_cut: bool, get_bytes: int = GET_BYTES) -> int:
    """GETs for so many bytes of a segment, its footer included."""
    return 1 if data_bytes < get_bytes and not is_cut else 1 + -(-data_bytes // get_bytes)


def wanted_bytes(footer: SegmentFooter, start_offset: int, end_offset: int) -> Range:
    """Where the batches of [start_offset, end_offset) lie, and perhaps some before and behind, by the footer's index. Begins
    and ends between batches."""
    behind = bisect_left(footer.index_offsets, end_offset)
    end = footer.index_positions[behind] if behind < len(footer.index_offsets) else footer.data_bytes
    return Range(footer.position_before(start_offset), end)


def ranges_of(wanted: Range, footer: SegmentFooter) -> list[Range]:
    """GETs of whole chunks that hold the wanted bytes, about ``GET_BYTES`` each."""
    chunk = footer.crc_chunk_bytes
    start, end = wanted.start // chunk * chunk, min(-(-wanted.end // chunk) * chunk, footer.data_bytes)
    step = max(GET_BYTES // chunk, 1) * chunk
    return [Range(at, min(at + step, end)) for at in range(start, end, step)]
