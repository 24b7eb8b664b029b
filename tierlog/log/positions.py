"""Cache of batch starts: offset -> (segment, position), for readers that go on where they stopped.

Two bounded first-in-first-out tables, so that a busy writer does not push out slow readers: batch boundaries of recent
appends (for followers, tail consumers, the high watermark), and ends of recently read slices (for catch-up readers).
A miss costs an index lookup and a header walk, never a wrong answer: keys are exact batch boundaries.
"""

from __future__ import annotations

from itertools import islice
from typing import TypeAlias

from tierlog.log.segment import Segment

APPENDED_MAX = 128
READ_MAX = 64

Place: TypeAlias = tuple[Segment, int]


class BatchPositions:
    __slots__ = ("_appended", "_read")

    def __init__(self) -> None:
        self._appended: dict[int, Place] = {}
        self._read: dict[int, Place] = {}

    def get(self, offset: int) -> Place | None:
        return self._appended.get(offset) or self._read.get(offset)

    def note_appended(self, next_offset: int, segment: Segment, position: int) -> None:
        table = self._appended
        table[next_offset] = (segment, position)
        if len(table) > APPENDED_MAX:
            # Many at once: each search for the oldest passes by all that went before.
            for oldest in [*islice(table, APPENDED_MAX // 2)]:
                del table[oldest]

    def note_read(self, next_offset: int, segment: Segment, position: int) -> None:
        table = self._read
        table[next_offset] = (segment, position)
        if len(table) > READ_MAX:
            del table[next(iter(table))]

    def clear(self) -> None:
        """Call after a truncation or a swap of segments: the positions are no longer valid."""
        self._appended.clear()
        self._read.clear()
