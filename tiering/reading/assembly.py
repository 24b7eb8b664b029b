"""Cuts whole batches out of chunks that are ready, or says what is missing. Synchronous, no I/O.

A read parses headers only near its ends: the start is remembered or found from the offset index, and so is the last
index point below the limit; the batches in between are not parsed.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from tiering.batches import HEADER_BYTES, check_extent, extent
from tiering.catalog import Catalog, refuse_lost
from tiering.codec import SegmentFooter
from tiering.model import SegmentEntry
from tiering.reading.chunks import ChunkRef


class Missing(NamedTuple):
    """What a read must wait for: the footer of ``entry`` (``position`` None), the chunk that holds ``position``, or,
    with ``size_bytes``, one batch that is larger than a chunk."""

    entry: SegmentEntry
    position: int | None
    size_bytes: int = 0


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

    chunk_bytes: int

    def footer(self, entry: SegmentEntry) -> SegmentFooter | None: ...

    def chunk(self, ref: ChunkRef) -> memoryview | None: ...

    def large_batch(self, entry: SegmentEntry, position: int) -> memoryview | None:
        """A batch that was loaded alone, with nothing before or behind it."""
        ...


class Span:
    """The ready bytes of one object from ``start`` on, up to a limit or the first missing chunk."""

    __slots__ = ("end", "start", "views")

    def __init__(self, ready: Ready, entry: SegmentEntry, start: int, limit: int) -> None:
        self.start = self.end = start
        self.views: list[memoryview] = []
        size = ready.chunk_bytes
        while self.end < limit:
            number = self.end // size
            chunk = ready.chunk(ChunkRef(entry, number))
            if chunk is None:
                return
            view = chunk[self.end - number * size : limit - number * size]
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


def locate(ready: Ready, catalog: Catalog, offset: int) -> Place | Missing | None:
    """The start of the batch that holds ``offset`` (or of the next one, where compaction left a hole). None when the tier
    ends with such a hole. Raises ``LostPage``."""
    entry = catalog.find(offset)
    assert entry is not None, "the caller checked the range"
    refuse_lost(entry)
    if offset <= entry.base_offset:
        return Place(entry, 0)  # known without the footer, which is then loaded together with the first chunk
    footer = ready.footer(entry)
    if footer is None:
        return Missing(entry, None)
    position = footer.position_before(offset)
    chunk_end = position
    while True:
        if position + HEADER_BYTES > chunk_end:
            if position >= entry.data_bytes:
                following = catalog.next(entry)
                if following is None:
                    return None
                refuse_lost(following)
                return Place(following, 0)
            chunk_end = min((position // ready.chunk_bytes + 1) * ready.chunk_bytes, entry.data_bytes)
            chunk_end = max(chunk_end, position + HEADER_BYTES)
            span = Span(ready, entry, position, chunk_end)
        found = span.extent(position)
        if found is None:
            return Missing(entry, span.end)
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
        return Missing(entry, position)
    cut, next_offset = _last_whole(ready, span, entry, fetch_offset)
    if cut > position:
        return Taken(span.cut(position, cut), cut - position, next_offset)
    if end < limit:
        return Missing(entry, end)
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
        return Missing(entry, head.end)
    _, end_offset, size = found
    if size > ready.chunk_bytes:
        view = ready.large_batch(entry, position)
        return Missing(entry, position, size) if view is None else Taken([view], size, end_offset)
    span = Span(ready, entry, position, position + size)
    if span.end < position + size:
        return Missing(entry, span.end)
    return Taken(span.views, size, end_offset)
