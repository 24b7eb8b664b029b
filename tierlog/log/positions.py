"""Cache of batch starts: offset -> (segment, position), for readers that go on where they stopped.

Two bounded first-in-first-out tables, so that a busy writer does not push out slow readers: batch boundaries of recent
appends (for followers, tail consumers, the high watermark), and ends of recently read slices (for catch-up readers).
A miss costs an index lookup and a header walk, never a wrong answer: keys are exact batch boundaries.
"""

from __future__ import annotations

from typing import TypeAlias

from tierlog.log.segment import Segment

TABLE_ENTRIES_MAX = 64

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
        if len(table) > TABLE_ENTRIES_MAX:
            del table[next(iter(table))]

    def note_read(self, next_offset: int, segment: Segment, position: int) -> None:
        table = self._read
        table[next_offset] = (segment, position)
        if len(table) > TABLE_ENTRIES_MAX:
            del table[next(iter(table))]

    def clear(self) -> None:
        """Call after a truncation or a swap of segments: the positions are no longer valid."""
        self._appended.clear()
        self._read.clear()
