"""Cache of batch starts: offset -> (segment, position), for readers that go on where they stopped.

Two bounded first-in-first-out tables, so that a busy writer does not push out slow readers: batch boundaries of recent
appends (for followers, tail consumers, the high watermark), which ascend, and ends of recently read slices (for catch-up
readers).
A miss costs an index lookup and a header walk, never a wrong answer: keys are exact batch boundaries.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TypeAlias

from tierlog.log.segment import Segment

APPENDED_MAX = 128
READ_MAX = 64

Place: TypeAlias = tuple[Segment, int]


class BatchPositions:
    __slots__ = ("_appended", "_positions", "_read", "_segments")

    def __init__(self) -> None:
        # Of appends: offsets, and in the same places where those begin.
        self._appended: list[int] = []
        self._segments: list[Segment] = []
        self._positions: list[int] = []
        self._read: dict[int, Place] = {}

    def get(self, offset: int) -> Place | None:
        appended = self._appended
        at = bisect_left(appended, offset)
        if at < len(appended) and appended[at] == offset:
            return self._segments[at], self._positions[at]
        return self._read.get(offset)

    def note_appended(self, next_offset: int, segment: Segment, position: int) -> None:
        if len(self._appended) == APPENDED_MAX:
            oldest = slice(APPENDED_MAX // 2)
            del self._appended[oldest], self._segments[oldest], self._positions[oldest]
        self._appended.append(next_offset)
        self._segments.append(segment)
        self._positions.append(position)

    def note_read(self, next_offset: int, segment: Segment, position: int) -> None:
        table = self._read
        table[next_offset] = (segment, position)
        if len(table) > READ_MAX:
            del table[next(iter(table))]

    def clear(self) -> None:
        """Call after a truncation or a swap of segments: the positions are no longer valid."""
        for table in (self._appended, self._segments, self._positions):
            table.clear()
        self._read.clear()
