"""What a ladder will do with the segments that are there: where they lie, what is due, what waits and why, what moves when.

Pure; the caller walks the entries (``Forecast.add``) in slices. Nothing new is assumed to arrive, and the clock to go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from tiering.ladder import DAY_MS, Ladder, Why, verdict
from tiering.model import SegmentEntry
from tiering.objects.classes import StorageClass

MONTH_MS = 30 * DAY_MS
MONTHS = 12
STEPS_MAX = 2 * len(StorageClass)
"""A step is a move, or the moment when a timestamp of the future is none any more."""


@dataclass(slots=True)
class Amount:
    """So many segments of so many bytes (of objects). ``due_ms``: when the first of them may move; 0 if it says nothing."""

    segments: int = 0
    bytes: int = 0
    due_ms: int = 0

    def add(self, object_bytes: int, due_ms: int = 0) -> None:
        self.segments += 1
        self.bytes += object_bytes
        if due_ms and (not self.due_ms or due_ms < self.due_ms):
            self.due_ms = due_ms


Classes: TypeAlias = tuple[StorageClass, StorageClass]


@dataclass(slots=True)
class Forecast:
    """Sums over the segments that were added. ``retention_ms``: -1 for ever."""

    ladder: Ladder | None
    retention_ms: int
    now_ms: int
    held: dict[StorageClass, Amount] = field(default_factory=dict)
    """By the class where they are."""
    due: dict[Classes, Amount] = field(default_factory=dict)
    """To move now, by (from, to)."""
    waiting: dict[tuple[StorageClass, StorageClass, Why], Amount] = field(default_factory=dict)
    """Old enough for a colder class, and why they stay."""
    later: dict[tuple[int, StorageClass, StorageClass], Amount] = field(default_factory=dict)
    """Moves of the coming months (the first is 0), those that are due now left out."""
    early: dict[StorageClass, Amount] = field(default_factory=dict)
    """Deleted by retention within those months before their class's minimum time is over, by that class: the rest of the
    minimum is billed all the same."""

    def add(self, entry: SegmentEntry) -> None:
        """Constant time: a segment moves a few times at most."""
        now_in = StorageClass(entry.storage_class)
        self.held.setdefault(now_in, Amount()).add(entry.object_bytes)
        if self.ladder is None:
            return
        told = verdict(entry, self.ladder, self.now_ms)
        if told.why is None:
            self.due.setdefault((now_in, told.target), Amount()).add(entry.object_bytes)
        elif told.why is not Why.IN_PLACE:
            key = (now_in, told.target, told.why)
            self.waiting.setdefault(key, Amount()).add(entry.object_bytes, told.due_ms)
        self._follow(entry, self.ladder)

    def _follow(self, entry: SegmentEntry, ladder: Ladder) -> None:
        """The segment's way down until it is deleted, or the months are over."""
        at_ms, horizon_ms = self.now_ms, self.now_ms + MONTHS * MONTH_MS
        born_ms = entry.retention_timestamp_ms(self.now_ms)
        deleted_ms = born_ms + self.retention_ms if self.retention_ms >= 0 else horizon_ms + 1
        for _ in range(STEPS_MAX):
            told = verdict(entry, ladder, at_ms)
            if told.why is None:
                now_in = StorageClass(entry.storage_class)
                if at_ms > self.now_ms:
                    key = ((at_ms - self.now_ms) // MONTH_MS, now_in, told.target)
                    self.later.setdefault(key, Amount()).add(entry.object_bytes, at_ms)
                entry = entry._replace(storage_class=int(told.target), class_since_ms=at_ms)
            next_ms = _next_ms(entry, ladder, at_ms)
            if next_ms is None or next_ms >= min(horizon_ms, deleted_ms):
                break
            at_ms = next_ms
        now_in = StorageClass(entry.storage_class)
        ends_ms = entry.class_since_ms + ladder.names[now_in].days_min * DAY_MS
        if deleted_ms < horizon_ms and ends_ms > max(deleted_ms, self.now_ms):
            self.early.setdefault(now_in, Amount()).add(entry.object_bytes, deleted_ms)


def _next_ms(entry: SegmentEntry, ladder: Ladder, at_ms: int) -> int | None:
    """When the segment may move next, later than ``at_ms``; None if it never does."""
    now_in, born_ms = StorageClass(entry.storage_class), entry.retention_timestamp_ms(at_ms)
    if verdict(entry, ladder, at_ms).why in (Why.TOO_SMALL, Why.FOREIGN, Why.LOST):
        return None
    free_ms = 0 if ladder.is_early_allowed else entry.class_since_ms + ladder.names[now_in].days_min * DAY_MS
    colder = [
        rung
        for rung in ladder.rungs
        if rung.storage_class > now_in and ladder.names[rung.storage_class] != ladder.names[now_in]
    ]
    times = [max(born_ms + rung.from_ms, free_ms) for rung in colder]
    return min((time_ms for time_ms in times if time_ms > at_ms), default=None)
