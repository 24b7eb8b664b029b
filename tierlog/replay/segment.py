"""The pieces of one segment object, in order, to whole batches. Pure.

Each piece is verified against the footer's checksums. A batch that lies across two pieces is put together; all others stay
where they are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tiering.batches import HEADER_BYTES, check_extent, extent
from tiering.codec import SegmentFooter
from tiering.errors import CorruptObject
from tierlog.records.batch import BatchHeader, walk
from tierlog.replay.decode.batches import IsAborted, none_aborted
from tierlog.replay.gets import Range
from tierlog.types import Buffer


class WholeBatches(NamedTuple):
    """Batches lie in [start, end) of ``data``, one behind the other."""

    data: Buffer
    start: int
    end: int


class SegmentPieces:
    """``wanted``: the bytes of the object that hold batches to be read; it begins and ends between batches."""

    def __init__(self, footer: SegmentFooter, wanted: Range, key: str) -> None:
        self._footer, self._wanted, self._key = footer, wanted, key
        self._rest: list[Buffer] = []
        """Of a batch whose end has not come yet."""
        self._rest_bytes = 0

    def add(self, piece: Buffer, position: int) -> Iterator[WholeBatches]:
        """The next piece, which begins at this chunk of the object. Raises CorruptObject."""
        self._footer.verify(piece, position, self._key)
        at = max(self._wanted.start - position, 0)
        end = min(self._wanted.end - position, len(piece))
        view = memoryview(piece)
        if self._rest:
            missing = self._missing(view[at:end])
            self._rest.append(view[at : min(at + missing, end)])
            self._rest_bytes += min(missing, end - at)
            if missing > end - at:
                return
            at += missing
            whole = b"".join(self._rest)
            self._rest, self._rest_bytes = [], 0
            yield WholeBatches(whole, 0, len(whole))
        stop = self._end_of_whole(view, max(at, self._known_before(position + end) - position), end)
        if stop > at:
            yield WholeBatches(piece, at, stop)
        if stop < end:
            self._rest, self._rest_bytes = [view[stop:end]], end - stop

    def close(self) -> None:
        """All pieces have come. Raises CorruptObject if a batch is cut off."""
        if self._rest:
            raise CorruptObject(f"{self._key}: ends in the middle of a batch")

    def _missing(self, following: memoryview) -> int:
        """Bytes up to the end of the batch that is begun, or to that of its header while that is not whole."""
        if self._rest_bytes >= HEADER_BYTES:
            return self._size(b"".join(self._rest)[:HEADER_BYTES], 0) - self._rest_bytes
        head = b"".join([*self._rest, following[: HEADER_BYTES - self._rest_bytes]])
        size = self._size(head, 0) if len(head) == HEADER_BYTES else HEADER_BYTES
        return size - self._rest_bytes

    def _known_before(self, position: int) -> int:
        """The last place up to here of those at which, by the footer's index, batches begin: others need no look."""
        positions = self._footer.index_positions
        known = bisect_right(positions, position)
        return positions[known - 1] if known else 0

    def _end_of_whole(self, view: memoryview, at: int, end: int) -> int:
        while end - at >= HEADER_BYTES:
            size = self._size(view, at)
            if at + size > end:
                break
            at += size
        return at

    def _size(self, data: Buffer, at: int) -> int:
        base, end_offset, size_bytes = extent(data, at)
        try:
            check_extent(base, end_offset, size_bytes)
        except CorruptObject as error:
            raise CorruptObject(f"{self._key}: {error}") from None
        return size_bytes


def aborted_by(footer: SegmentFooter) -> IsAborted:
    """Whether a batch belongs to an aborted transaction of the footer's index."""
    return _AbortedBatches(footer) if footer.aborted else none_aborted


class _AbortedBatches:
    def __init__(self, footer: SegmentFooter) -> None:
        self._by_producer: dict[int, list[tuple[int, int]]] = {}
        for each in footer.aborted:
            bounds = (each.first_offset, each.last_offset)
            self._by_producer.setdefault(each.producer_id, []).append(bounds)

    def __call__(self, header: BatchHeader) -> bool:
        if not header.is_transactional:
            return False
        bounds = self._by_producer.get(header.producer_id, ())
        return any(first <= header.base_offset <= last for first, last in bounds)


def aborted_batches(data: Buffer, end: int, aborted: Sequence[tuple[int, int]]) -> IsAborted:
    """As ``aborted_by``, from the answer of a Fetch: (producer id, first offset) of aborted transactions, each of which
    ends at its marker among the batches in ``data[:end]``, or behind them."""
    if not aborted:
        return none_aborted
    begin_at = sorted(aborted, key=lambda each: each[1])
    open_producers: set[int] = set()
    left_out: set[int] = set()
    for _, header in walk(data, 0, end):
        while begin_at and begin_at[0][1] <= header.last_offset:
            open_producers.add(begin_at.pop(0)[0])
        if header.is_control:
            open_producers.discard(header.producer_id)
        elif header.is_transactional and header.producer_id in open_producers:
            left_out.add(header.base_offset)
    return lambda header: header.base_offset in left_out
