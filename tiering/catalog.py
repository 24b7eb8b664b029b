"""All segments of a partition's remote tier, as compact columns with binary search.

``EntryColumns`` holds the paged entries (about 170 bytes each). ``Catalog`` adds the head's tail and is limited to the
live entries. A catalog is immutable: each new head makes a new one, which costs O(tail), since the columns are
shared.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

from tiering.errors import LostPage
from tiering.model import SegmentEntry, TierHead

_Q = "q"
_WIDE = tuple(name for name in SegmentEntry._fields if name != "uuid")


class EntryColumns:
    """Entries in offset order, one array per field; treat as frozen."""

    __slots__ = ("_by_class", "_columns", "_cumulative_bytes", "_running_max", "uuids")

    def __init__(self, columns: dict[str, array[int]], uuids: bytes) -> None:
        assert set(columns) == set(_WIDE)
        assert len(uuids) == 16 * len(columns["base_offset"])
        self._columns = columns
        self.uuids = uuids
        self._running_max = array(_Q, accumulate(columns["max_timestamp_ms"], max))
        self._cumulative_bytes = array(_Q, accumulate(columns["data_bytes"]))
        self._by_class: dict[int, tuple[array[int], array[int]]] | None = None

    @staticmethod
    def of(entries: Iterable[SegmentEntry]) -> EntryColumns:
        rows = list(entries)
        return EntryColumns(
            {name: array(_Q, (getattr(row, name) for row in rows)) for name in _WIDE},
            b"".join(row.uuid for row in rows),
        )

    @staticmethod
    def concat(parts: Iterable[EntryColumns]) -> EntryColumns:
        parts = list(parts)
        columns = {name: array(_Q) for name in _WIDE}
        for part in parts:
            for name in _WIDE:
                columns[name].extend(part._columns[name])
        return EntryColumns(columns, b"".join(part.uuids for part in parts))

    def __len__(self) -> int:
        return len(self._columns["base_offset"])

    def __getitem__(self, at: int) -> SegmentEntry:
        assert 0 <= at < len(self)
        c = self._columns
        return SegmentEntry(
            c["base_offset"][at],
            c["end_offset"][at],
            c["leader_epoch"][at],
            self.uuids[16 * at : 16 * at + 16],
            c["data_bytes"][at],
            c["stored_bytes"][at],
            c["object_bytes"][at],
            c["first_timestamp_ms"][at],
            c["max_timestamp_ms"][at],
            c["created_ms"][at],
            c["last_batch_epoch"][at],
            c["flags"][at],
            c["location"][at],
            c["storage_class"][at],
            c["class_since_ms"][at],
            c["generation"][at],
            c["origin"][at],
            c["version_hash"][at],
        )

    def __iter__(self) -> Iterator[SegmentEntry]:
        return (self[at] for at in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, EntryColumns) and self._columns == other._columns and self.uuids == other.uuids
        )

    def sliced(self, start: int, end: int) -> EntryColumns:
        columns = {name: values[start:end] for name, values in self._columns.items()}
        return EntryColumns(columns, self.uuids[16 * start : 16 * end])

    def column(self, name: str) -> array[int]:
        return self._columns[name]

    def index_of(self, offset: int) -> int:
        """Index of the first entry that ends above ``offset``; ``len`` if there is none."""
        return bisect_right(self._columns["end_offset"], offset)

    def bytes_between(self, start: int, end: int) -> int:
        """Data bytes of the entries [start, end) by index."""
        if start >= end:
            return 0
        return self._cumulative_bytes[end - 1] - (self._cumulative_bytes[start - 1] if start else 0)

    def held_by_class(self, start: int) -> dict[int, tuple[int, int]]:
        """(objects, their bytes) of the entries from index ``start`` on, by the number of their storage class. The sums are
        made once."""
        if self._by_class is None:
            self._by_class = self._sums_by_class()
        if start >= len(self):
            return {}
        before = start - 1
        return {
            number: (
                counts[-1] - (counts[before] if start else 0),
                sizes[-1] - (sizes[before] if start else 0),
            )
            for number, (counts, sizes) in self._by_class.items()
        }

    def _sums_by_class(self) -> dict[int, tuple[array[int], array[int]]]:
        """Running counts and bytes of each class."""
        classes, sizes = self._columns["storage_class"], self._columns["object_bytes"]
        return {
            number: (
                array(_Q, accumulate(each == number for each in classes)),
                array(
                    _Q, accumulate(n if each == number else 0 for each, n in zip(classes, sizes, strict=True))
                ),
            )
            for number in sorted(set(classes))
        }

    def first_reaching(self, timestamp_ms: int, start: int) -> int:
        """Index of the first entry at or behind ``start`` whose largest timestamp is >= ``timestamp_ms``.

        Binary search on the running maximum; a linear walk only if an entry before ``start`` already reached the
        timestamp."""
        at = bisect_left(self._running_max, timestamp_ms)
        if at >= start:
            return at
        timestamps = self._columns["max_timestamp_ms"]
        return next((i for i in range(start, len(self)) if timestamps[i] >= timestamp_ms), len(self))


EMPTY_COLUMNS = EntryColumns.of(())


def refuse_lost(entry: SegmentEntry) -> None:
    """Raises ``LostPage`` if the entry stands for a lost page."""
    if entry.is_lost_page:
        where = f"[{entry.base_offset}, {entry.end_offset})"
        raise LostPage(f"the page {entry.uuid.hex()} that lists the segments of {where} is gone or damaged")


class Catalog:
    """The live segments of one head. ``start`` (inclusive) and ``end`` (exclusive) as in the head."""

    __slots__ = ("_first", "end", "head", "pages", "start", "tail")

    def __init__(self, head: TierHead, pages: EntryColumns = EMPTY_COLUMNS) -> None:
        ref = head.page_index
        assert (ref is None) or len(pages), "the pages of the index are loaded first"
        self.head = head
        self.start = head.start
        self.end = head.end
        self.tail = head.live_tail
        self.pages = pages if ref is not None else EMPTY_COLUMNS
        self._first = self.pages.index_of(self.start)

    def __len__(self) -> int:
        return len(self.pages) - self._first + len(self.tail)

    @property
    def is_empty(self) -> bool:
        return self.start == self.end

    @property
    def data_bytes(self) -> int:
        """Bytes of record batches in all live entries; an entry that the start cuts counts whole."""
        return self.pages.bytes_between(self._first, len(self.pages)) + sum(e.data_bytes for e in self.tail)

    def __iter__(self) -> Iterator[SegmentEntry]:
        """Live entries, oldest first."""
        for at in range(self._first, len(self.pages)):
            yield self.pages[at]
        yield from self.tail

    def starting_at(self, offset: int) -> Iterator[SegmentEntry]:
        """Live entries that end above ``offset``, oldest first, lost pages included."""
        offset = max(offset, self.start)
        for at in range(self.pages.index_of(offset), len(self.pages)):
            yield self.pages[at]
        yield from (entry for entry in self.tail if entry.end_offset > offset)

    def find(self, offset: int) -> SegmentEntry | None:
        """The live entry that covers ``offset``; None outside ``[start, end)``."""
        if not self.start <= offset < self.end:
            return None
        if self.tail and offset >= self.tail[0].base_offset:
            at = bisect_right(self.tail, offset, key=lambda e: e.end_offset)
            return self.tail[at]
        at = self.pages.index_of(offset)
        assert at < len(self.pages), "H1"
        return self.pages[at]

    def next(self, entry: SegmentEntry) -> SegmentEntry | None:
        """The entry behind ``entry``; None also before a lost page, since no reader can go on there."""
        following = self.find(entry.end_offset)
        return None if following is None or following.is_lost_page else following

    @property
    def first(self) -> SegmentEntry | None:
        return self.find(self.start)

    @property
    def last(self) -> SegmentEntry | None:
        return self.find(self.end - 1)

    def find_by_timestamp(self, timestamp_ms: int, from_offset: int) -> SegmentEntry | None:
        """The first live entry that ends above ``from_offset`` and has a record at or after ``timestamp_ms``. If
        ``from_offset`` cuts it, that record may lie below: then search again from the entry's end."""
        first = self.pages.index_of(max(from_offset, self.start))
        at = self.pages.first_reaching(timestamp_ms, first)
        if at < len(self.pages):
            return self.pages[at]
        return next(
            (e for e in self.tail if e.end_offset > from_offset and e.max_timestamp_ms >= timestamp_ms), None
        )

    def by_max_timestamp(self) -> list[SegmentEntry]:
        """The entries that may hold the largest timestamp: the first entry, whose maximum may lie below the start,
        if its maximum is the largest; and the first of the others that holds their maximum."""
        first = self.first
        timestamps = self.pages.column("max_timestamp_ms")[self._first + 1 :]
        others = [e for e in self.tail if e is not first]
        best = max(others, key=lambda e: e.max_timestamp_ms, default=None)
        paged_max = max(timestamps, default=-1)
        if paged_max >= 0 and (best is None or paged_max >= best.max_timestamp_ms):
            best = self.pages[self._first + 1 + timestamps.index(paged_max)]
        candidates = [e for e in (first, best) if e is not None and e.max_timestamp_ms >= 0]
        if len(candidates) == 2 and candidates[1].max_timestamp_ms > candidates[0].max_timestamp_ms:
            candidates.pop(0)
        return candidates

    def dated_above(self, timestamp_ms: int) -> int:
        """How many live entries have a later largest timestamp."""
        paged = self.pages.column("max_timestamp_ms")[self._first :]
        return sum(one > timestamp_ms for one in (*paged, *(e.max_timestamp_ms for e in self.tail)))

    def retired(self, up_to_offset: int) -> Iterator[SegmentEntry]:
        """Retired entries that end at or below ``up_to_offset`` and whose objects still exist, oldest first."""
        up_to_offset = min(up_to_offset, self.start)
        for at in range(self.pages.index_of(self.head.removed_end), len(self.pages)):
            if self.pages.column("end_offset")[at] > up_to_offset:
                return
            yield self.pages[at]
        for entry in self.head.tail:
            if self.head.removed_end < entry.end_offset <= up_to_offset:
                yield entry

    def retired_size(self) -> tuple[int, int]:
        """(data bytes, count) of the retired entries whose objects still exist."""
        first, end = self.pages.index_of(self.head.removed_end), self._first
        in_tail = [e for e in self.head.tail if self.head.removed_end < e.end_offset <= self.start]
        paged_bytes = self.pages.bytes_between(first, end)
        return paged_bytes + sum(e.data_bytes for e in in_tail), max(end - first, 0) + len(in_tail)

    def held_by_class(self) -> list[tuple[int, int, int]]:
        """(number of a storage class, objects, their bytes) of all entries whose objects exist, retired ones included."""
        held = self.pages.held_by_class(self.pages.index_of(self.head.removed_end))
        for entry in self.head.tail:
            if entry.end_offset > self.head.removed_end:
                objects, size_bytes = held.get(entry.storage_class, (0, 0))
                held[entry.storage_class] = (objects + 1, size_bytes + entry.object_bytes)
        return [(number, *amounts) for number, amounts in sorted(held.items()) if amounts[0]]

    def references(self, base_offset: int, uuid: bytes) -> bool:
        """Whether an entry of the head or its pages names this object, live or retired. An object that a lost page may name
        counts as named. A removed object does not, though a page may still list it."""
        if any(entry.uuid == uuid for entry in self.head.tail):
            return True
        at = self.pages.index_of(max(base_offset, self.head.removed_end))
        if at == len(self.pages):
            return False
        entry = self.pages[at]
        return entry.uuid == uuid or (entry.is_lost_page and entry.base_offset <= base_offset)

    def overlapping(self, start_offset: int, end_offset: int) -> Iterator[SegmentEntry]:
        """Live entries with offsets in ``[start_offset, end_offset)``."""
        entry = self.find(max(start_offset, self.start))
        while entry is not None and entry.base_offset < end_offset:
            yield entry
            entry = self.next(entry)
