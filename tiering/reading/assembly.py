"""Cuts whole batches out of chunks that are ready, or says what is missing. Synchronous, no I/O.

A read parses headers only near its ends: the start is remembered or found from the offset index, and so is the last
index point below the limit; the batches in between are not parsed.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from tiering.batches import HEADER_BYTES, WholeBelow, check_extent, extent
from tiering.catalog import Catalog, refuse_lost
from tiering.codec import SegmentFooter
from tiering.errors import CorruptObject
from tiering.model import SegmentEntry

# How far the batch of an offset is looked for at a time, from the index point in front of it.
LOOK_BYTES = 1 << 20
_ANY_OFFSET = 2**63 - 1


class Missing(NamedTuple):
    """What a read must wait for: the footer of ``entry`` (``position`` None), or the bytes [position, needed_end) of its
    object, which belong with those from ``batch_start`` on."""

    entry: SegmentEntry
    position: int | None
    batch_start: int = 0
    needed_end: int = 0
    is_located: bool = False
    """Whether the batch at ``batch_start`` holds the offset that is asked for."""


class Place(NamedTuple):
    """A batch start: byte ``position`` in the object of ``entry``."""

    entry: SegmentEntry
    position: int


class Taken(NamedTuple):
    """Whole batches of one object."""

    buffers: list[memoryview]
    size_bytes: int
    next_offset: int


class Ready(Protocol):
    """The footers and chunks in memory."""

    whole_below: WholeBelow | None

    def footer(self, entry: SegmentEntry) -> SegmentFooter | None: ...

    def piece(self, entry: SegmentEntry, position: int) -> memoryview | None:
        """The ready bytes from ``position`` to the end of the chunk that holds it."""
        ...


class Span:
    """The ready bytes of one object from ``start`` on, up to a limit or the first missing chunk."""

    __slots__ = ("_whole_below", "end", "start", "views")

    def __init__(self, ready: Ready, entry: SegmentEntry, start: int, limit: int) -> None:
        self.start = self.end = start
        self.views: list[memoryview] = []
        self._whole_below = ready.whole_below
        while self.end < limit:
            piece = ready.piece(entry, self.end)
            if piece is None:
                return
            view = piece[: limit - self.end]
            self.views.append(view)
            self.end += len(view)

    def cut(self, start: int, end: int) -> list[memoryview]:
        """The bytes [start, end), which the span must hold."""
        assert self.start <= start <= end <= self.end
        cut = []
        at = self.start
        for view in self.views:
            if at >= end:
                break
            if at + len(view) > start:
                cut.append(view[max(start - at, 0) : end - at])
            at += len(view)
        return cut

    def past_those_below(self, position: int, end_offset: int) -> tuple[int, int]:
        """Past batches from ``position`` on that end at or below ``end_offset``, and the offset behind them: as many as one
        call tells, which may be none."""
        whole_below, at = self._whole_below, self.start
        if whole_below is not None:
            for view in self.views:
                if position < at + len(view):
                    size, found = whole_below(view[position - at :], end_offset)
                    return position + size, found
                at += len(view)
        return position, -1

    def extent(self, position: int) -> tuple[int, int, int] | None:
        """(base offset, end offset, size) of the batch at ``position``; None if its header is not here."""
        if position + HEADER_BYTES > self.end:
            return None
        at = self.start
        for view in self.views:
            if position < at + len(view):
                if position + HEADER_BYTES <= at + len(view):
                    found = extent(view, position - at)
                else:
                    found = extent(b"".join(self.cut(position, position + HEADER_BYTES)), 0)
                check_extent(*found)
                return found
            at += len(view)
        raise AssertionError("the span ends before its end")


def index_point(ready: Ready, catalog: Catalog, offset: int, loaded: SegmentFooter | None) -> Place | Missing:
    """A batch at or before the one that holds ``offset``; ``loaded`` is a footer that may have left the memory again.
    Raises ``LostPage``."""
    entry = catalog.find(offset)
    assert entry is not None, "the caller checked the range"
    refuse_lost(entry)
    if offset <= entry.base_offset:
        return Place(entry, 0)  # known without the footer, which is then loaded together with the first chunk
    footer = ready.footer(entry)
    if footer is None and loaded is not None and loaded.base_offset == entry.base_offset:
        footer = loaded
    return Missing(entry, None) if footer is None else Place(entry, footer.position_before(offset))


def locate(ready: Ready, catalog: Catalog, offset: int, point: Place) -> Place | Missing | None:
    """The start of the batch that holds ``offset`` (or of the next one, where compaction left a hole), at or behind
    ``point``. None when the tier ends with such a hole. Raises ``LostPage``."""
    entry, position = point
    if offset <= entry.base_offset:
        return point
    look_end = position
    while True:
        if position + HEADER_BYTES > look_end:
            if position >= entry.data_bytes:
                following = catalog.next(entry)
                if following is None:
                    return None
                refuse_lost(following)
                return Place(following, 0)
            look_end = min(position + LOOK_BYTES, entry.data_bytes)
            span = Span(ready, entry, position, look_end)
        passed, _ = span.past_those_below(position, offset)
        if passed > position:
            position = passed
            continue
        found = span.extent(position)
        if found is None:
            return _missing(entry, span.end, position, HEADER_BYTES, is_located=False)
        _, end_offset, size = found
        if end_offset > offset:
            return Place(entry, position)
        position += size


def take(
    ready: Ready, place: Place, fetch_offset: int, max_bytes: int, *, min_one_batch: bool
) -> Taken | Missing:
    """Whole batches from ``place`` on, as many as are ready and fit; never across the end of the object.

    ``Missing`` only if not even the first batch is ready. An empty ``Taken`` if that batch does not fit and
    ``min_one_batch`` is off."""
    entry, position = place
    limit = min(position + max_bytes, entry.data_bytes)
    span = Span(ready, entry, position, limit)
    end = span.end
    if end == entry.data_bytes and end > position:
        return Taken(span.views, end - position, entry.end_offset)
    if end == position and end < limit:
        return _missing(entry, position, position, HEADER_BYTES)
    cut, next_offset = _last_whole(ready, span, entry, fetch_offset)
    if cut > position:
        return Taken(span.cut(position, cut), cut - position, next_offset)
    if end < limit:
        return _missing(entry, end, position, _first_bytes(span))
    if not min_one_batch:
        return Taken([], 0, fetch_offset)
    return _first(ready, place)


def _last_whole(ready: Ready, span: Span, entry: SegmentEntry, fetch_offset: int) -> tuple[int, int]:
    """(end of the last whole batch in the span, offset behind that batch)."""
    position, next_offset = span.start, fetch_offset
    footer = ready.footer(entry)
    if footer is not None:
        indexed, offset = footer.batch_start_floor(span.end)
        if indexed > position:
            position, next_offset = indexed, offset
    while True:
        passed, behind = span.past_those_below(position, _ANY_OFFSET)
        if passed > position:
            position, next_offset = passed, behind
        found = span.extent(position)
        if found is None or position + found[2] > span.end:
            return position, next_offset
        position += found[2]
        next_offset = found[1]


def _first(ready: Ready, place: Place) -> Taken | Missing:
    """The whole first batch, whatever its size."""
    entry, position = place
    head = Span(ready, entry, position, position + HEADER_BYTES)
    found = head.extent(position)
    if found is None:
        return _missing(entry, head.end, position, HEADER_BYTES)
    _, end_offset, size = found
    span = Span(ready, entry, position, position + size)
    if span.end < position + size:
        return _missing(entry, span.end, position, size)
    return Taken(span.views, size, end_offset)


def _first_bytes(span: Span) -> int:
    """The size of the batch at the span's start, as far as it is known."""
    found = span.extent(span.start)
    return HEADER_BYTES if found is None else found[2]


def _missing(
    entry: SegmentEntry, position: int, batch_start: int, batch_bytes: int, *, is_located: bool = True
) -> Missing:
    if position >= entry.data_bytes:
        raise CorruptObject(f"the segment at offset {entry.base_offset} ends in the middle of a batch")
    needed_end = min(max(position + 1, batch_start + batch_bytes), entry.data_bytes)
    return Missing(entry, position, batch_start, needed_end, is_located)
