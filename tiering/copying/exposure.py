"""Since when a partition has records that are not in the bucket: what a lost disk would cost, and when to seal for it. Pure.

Times are those at which records were first seen, by a look every second or so, and not their timestamps, which clients
choose. A new leader counts anew.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

MARKS_MAX = 64
"""With more segments waiting, the youngest are not told apart."""


class Mark(NamedTuple):
    """From ``offset`` on, records were first seen at ``since_ms``."""

    offset: int
    since_ms: int


class Exposure:
    """One led partition's; offsets are exclusive ends, but for ``active_base_offset``."""

    def __init__(self) -> None:
        self._marks: deque[Mark] = deque()

    def see(self, active_base_offset: int, log_end_offset: int, tiered_end_offset: int, now_ms: int) -> None:
        """The log as it is now."""
        marks = self._marks
        if tiered_end_offset >= log_end_offset:
            marks.clear()
            return
        if not marks:
            marks.append(Mark(tiered_end_offset, now_ms))
        if marks[-1].offset < active_base_offset < log_end_offset and len(marks) < MARKS_MAX:
            marks.append(Mark(active_base_offset, now_ms))
        while len(marks) > 1 and marks[1].offset <= tiered_end_offset:
            marks.popleft()

    @property
    def since_ms(self) -> int | None:
        """When the oldest record that is not in the bucket was first seen; None if all are there."""
        return self._marks[0].since_ms if self._marks else None

    def is_seal_due(
        self, tiered_end_offset: int, active_base_offset: int, delay_ms: int, now_ms: int
    ) -> bool:
        """Whether the active segment has held records for so long. Not while sealed ones are still to be copied: then more
        of them would help nobody."""
        if delay_ms < 0 or tiered_end_offset < active_base_offset or self.since_ms is None:
            return False
        return now_ms - self._marks[-1].since_ms >= delay_ms
