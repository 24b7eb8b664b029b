"""Which records of a topic a condition can be true for: a union of boxes over partition, offset and timestamp.

Pure. A need may hold more than the condition, never less. An empty union is a condition that is true for no record.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

BOXES_MAX = 32
"""More than that become one box around all of them."""


class Box(NamedTuple):
    """Half-open ranges; None does not bound."""

    partitions: frozenset[int] | None = None
    start_offset: int | None = None
    end_offset: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None

    @property
    def is_empty(self) -> bool:
        return (
            self.partitions == frozenset()
            or _is_empty(self.start_offset, self.end_offset)
            or _is_empty(self.start_ms, self.end_ms)
        )


Need: TypeAlias = tuple[Box, ...]
ALL: Need = (Box(),)
NOTHING: Need = ()


def both(one: Need, other: Need) -> Need:
    """What both conditions can be true for."""
    return _bounded(_common(a, b) for a in one for b in other)


def either(needs: Iterable[Need]) -> Need:
    """What any of the conditions can be true for."""
    return _bounded(box for need in needs for box in need)


def is_whole(need: Need) -> bool:
    """Whether some box bounds nothing."""
    return Box() in need


def _bounded(boxes: Iterable[Box]) -> Need:
    found = tuple(dict.fromkeys(box for box in boxes if not box.is_empty))
    if Box() in found:
        return ALL
    return found if len(found) <= BOXES_MAX else (_around(found),)


def _common(a: Box, b: Box) -> Box:
    partitions = a.partitions if b.partitions is None else b.partitions
    if a.partitions is not None and b.partitions is not None:
        partitions = a.partitions & b.partitions
    return Box(
        partitions,
        _largest(a.start_offset, b.start_offset),
        _smallest(a.end_offset, b.end_offset),
        _largest(a.start_ms, b.start_ms),
        _smallest(a.end_ms, b.end_ms),
    )


def _around(boxes: tuple[Box, ...]) -> Box:
    partitions = [box.partitions for box in boxes if box.partitions is not None]
    starts = [box.start_offset for box in boxes if box.start_offset is not None]
    ends = [box.end_offset for box in boxes if box.end_offset is not None]
    firsts = [box.start_ms for box in boxes if box.start_ms is not None]
    lasts = [box.end_ms for box in boxes if box.end_ms is not None]
    count = len(boxes)
    return Box(
        frozenset().union(*partitions) if len(partitions) == count else None,
        min(starts) if len(starts) == count else None,
        max(ends) if len(ends) == count else None,
        min(firsts) if len(firsts) == count else None,
        max(lasts) if len(lasts) == count else None,
    )


def _largest(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)


def _smallest(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _is_empty(start: int | None, end: int | None) -> bool:
    return start is not None and end is not None and start >= end
