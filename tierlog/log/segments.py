"""The ordered segments of one log, the last one active."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from tierlog.log.segment import Segment

OPEN_SEALED_MAX = 4  # descriptors of sealed segments that one log keeps open


class Segments:
    """Invariant: base offsets ascend; each sealed segment ends at the base of the next."""

    __slots__ = ("_bases", "_list", "_open", "size_bytes")

    def __init__(self, segments: Iterable[Segment]) -> None:
        self._list = sorted(segments, key=lambda segment: segment.base_offset)
        self._bases = [segment.base_offset for segment in self._list]
        self._open: OrderedDict[int, Segment] = OrderedDict()
        self.size_bytes = sum(segment.size_bytes for segment in self._list)

    def __len__(self) -> int:
        return len(self._list)

    def __getitem__(self, index: int) -> Segment:
        return self._list[index]

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._list)

    @property
    def active(self) -> Segment:
        return self._list[-1]

    @property
    def first(self) -> Segment:
        return self._list[0]

    def sealed(self) -> list[Segment]:
        return self._list[:-1]

    def floor(self, offset: int) -> Segment:
        """The segment that would hold ``offset``; the first one for any lower offset."""
        return self._list[max(0, bisect_right(self._bases, offset) - 1)]

    def after(self, segment: Segment) -> Segment | None:
        """The next segment, also for one that has been deleted meanwhile."""
        index = bisect_right(self._bases, segment.base_offset)
        return self._list[index] if index < len(self._list) else None

    def starting_at(self, offset: int) -> list[Segment]:
        """``floor(offset)`` and all behind it."""
        return self._list[max(0, bisect_right(self._bases, offset) - 1) :]

    def add(self, segment: Segment) -> None:
        assert not self._bases or segment.base_offset > self._bases[-1]
        self._list.append(segment)
        self._bases.append(segment.base_offset)
        self.size_bytes += segment.size_bytes

    def remove(self, segment: Segment) -> None:
        index = self._bases.index(segment.base_offset)
        assert self._list[index] is segment
        del self._list[index], self._bases[index]
        self._open.pop(segment.base_offset, None)
        self.size_bytes -= segment.size_bytes

    def replace(self, old: Iterable[Segment], new: Iterable[Segment]) -> None:
        for segment in old:
            self.remove(segment)
        for segment in new:
            self._list.append(segment)
            self.size_bytes += segment.size_bytes
        self._list.sort(key=lambda segment: segment.base_offset)
        self._bases = [segment.base_offset for segment in self._list]

    def adjoin(self) -> None:
        """Make each sealed segment end where the next one begins, even when compaction removed its last records."""
        for segment, following in pairwise(self._list):
            segment.end_offset = following.base_offset

    def recount(self) -> None:
        self.size_bytes = sum(segment.size_bytes for segment in self._list)

    def note_read(self, segment: Segment) -> None:
        """Keep the descriptors of the most recently read sealed segments, close the others'."""
        if segment.is_sealed:
            opened = self._open
            opened[segment.base_offset] = segment
            opened.move_to_end(segment.base_offset)
            if len(opened) > OPEN_SEALED_MAX:
                opened.popitem(last=False)[1].release()
