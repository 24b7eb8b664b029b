"""The state of a partition's remote tier in the metadata store: the head and its pure transitions.

A partition's remote tier is one sequence of segment entries, oldest first, in two places: Parquet pages in the bucket
hold the older ones, ``TierHead.tail`` the newest. The head is the value of one key of the metadata store. Every change
of it is one compare-and-set there, and that is the only commit point.

Rules:

* A transition never mutates: it returns a new head with ``sequence`` raised by one.
* A segment's offsets, bytes and key never change. Its entry may (storage class, version of the object), and a run of
  entries may be replaced by another that covers the same offsets: ``with_replaced``.
* An entry below ``start`` is *retired*: readers cannot see it, its object still exists. ``retired`` tells when it was
  retired (one mark per move of the start, so a move past a million entries costs as much as one past a single entry);
  ``removed_end`` tells how far objects have been deleted since.
* Live entries adjoin: ``[start, end)`` is covered without a hole (H1). Entries never overlap (H2).
  ``end >= start`` (T1): a start past the end drags the end along and retires everything. The next entry then begins at
  ``start``; between it and the retired entries there is a hole.
* An object that a replacement took out of the entries is *displaced*: it stays named, and so undeleted, until readers of
  older heads are done with it.
* ``start`` is the log start offset of the partition, and may lie in the middle of a segment.
* The head is bounded: tail, marks, stale and displaced objects have maxima (H3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tiering.formats import FIRST_VERSION, FORMAT_VERSION

TAIL_ENTRIES_MAX = 64
RETIRED_MARKS_MAX = 16
STALE_OBJECTS_MAX = 64
DISPLACED_MAX = 64
ORIGINS_MAX = 16
NO_TIMESTAMP = -1

HAS_ABORTED_TRANSACTIONS = 1
"""Entry flag: the footer lists aborted transactions, so a read_committed reader has to ask it."""
STANDS_FOR_LOST_PAGE = 1 << 30
"""Entry flag, in memory only: the page that lists the segments of this range cannot be read. There is no such object."""


class SegmentEntry(NamedTuple):
    """One object that holds the batches of ``[base_offset, end_offset)``; immutable.

    The key follows from the partition and the first four fields. Kafka's batches come first in the object; the footer fills
    the rest of ``object_bytes``.
    """

    base_offset: int
    """First offset that this entry covers; its first batch may begin below (a start inside a batch)."""
    end_offset: int
    """Exclusive. Invariant: > base_offset."""
    leader_epoch: int
    """Epoch of the leader that copied it."""
    uuid: bytes
    """16 random bytes: two attempts never share a key."""
    data_bytes: int
    """Size of Kafka's batches, as a reader gets them."""
    stored_bytes: int
    """What they take in the object: less than ``data_bytes`` if chunks are compressed."""
    object_bytes: int
    first_timestamp_ms: int
    """Largest timestamp of the first batch, or -1."""
    max_timestamp_ms: int
    """Largest record timestamp, or -1 when there is none."""
    created_ms: int
    """When it was copied; stands in for the timestamp of records without one."""
    last_batch_epoch: int
    """Leader epoch of the last batch: the epoch at ``end_offset - 1``."""
    flags: int = 0
    location: int = 0
    """Which object store of the cluster holds it."""
    storage_class: int = 0
    """Number of its ``StorageClass``."""
    class_since_ms: int = 0
    """Since when it is in this class: providers bill a minimum time."""
    generation: int = 0
    """How often its offsets were written anew from other objects (merged, compacted); 0 as copied from a broker's disk."""
    origin: int = 0
    """Whose object it is: 0 this cluster's, n the cluster id ``origins[n - 1]`` of the head."""
    version_hash: int = 0
    """``hash_of_version`` of the object's version in its store; 0 when unknown."""

    @property
    def has_aborted_transactions(self) -> bool:
        return bool(self.flags & HAS_ABORTED_TRANSACTIONS)

    @property
    def is_lost_page(self) -> bool:
        return bool(self.flags & STANDS_FOR_LOST_PAGE)

    def retention_timestamp_ms(self, now_ms: int) -> int:
        """The time for ``retention.ms``: the largest record timestamp. The copy time if there is none, or if it lies in
        the future, where it would keep all entries behind this one."""
        return self.max_timestamp_ms if 0 <= self.max_timestamp_ms <= now_ms else self.created_ms


class MetaObject(NamedTuple):
    """Name of one page or page index object; the key follows from the partition and these fields."""

    sequence: int
    """Sequence of the head that it was written from."""
    leader_epoch: int
    uuid: bytes


class PageIndexRef(NamedTuple):
    """The page index in force: it lists the pages, which hold all entries of ``[base_offset, end_offset)``."""

    name: MetaObject
    base_offset: int
    """Base offset of the oldest paged entry (retired ones included)."""
    end_offset: int
    """End offset of the newest paged entry; the tail begins at or behind it."""
    entry_count: int
    page_count: int


class RetiredMark(NamedTuple):
    """Entries that end at or below ``end_offset`` (and above the previous mark's) were retired at ``retired_ms``."""

    end_offset: int
    retired_ms: int


class DisplacedSegment(NamedTuple):
    """A segment object that a replacement took out of the entries."""

    base_offset: int
    end_offset: int
    leader_epoch: int
    uuid: bytes
    displaced_ms: int


class StaleObject(NamedTuple):
    """A page or page index that a commit replaced; deletable once no reader of an older head can need it."""

    name: MetaObject
    stale_ms: int


@dataclass(frozen=True, slots=True)
class TierHead:
    """State of one partition's remote tier. Build with ``TierHead.empty`` and the ``with_*`` transitions."""

    start: int
    """Log start offset (inclusive) of the partition. Retention and DeleteRecords move it up; only an undelete lowers it."""
    end: int
    """Tiered end offset, exclusive: everything below is in the bucket or deleted. Only grows."""
    tail: tuple[SegmentEntry, ...] = ()
    """The newest entries, oldest first, retired ones included until they are paged or removed."""
    page_index: PageIndexRef | None = None
    retired: tuple[RetiredMark, ...] = ()
    """Marks in ascending order of both fields, all above ``removed_end``."""
    removed_end: int = 0
    """Objects of entries that end at or below this are deleted or left to the sweep. Pages may still list such
    entries; pages that list nothing else may be gone."""
    stale: tuple[StaleObject, ...] = ()
    sequence: int = 0
    """Number of transitions so far; orders copies of the head in the bucket."""
    format_version: int = field(default=FORMAT_VERSION)
    """In which it is stored, and so is all that is written for it. Rises once the whole cluster knows a newer one."""
    displaced: tuple[DisplacedSegment, ...] = ()
    """Oldest first."""
    origins: tuple[str, ...] = ()
    """Ids of other clusters whose objects some entries name. Only grows."""

    @staticmethod
    def empty(start: int = 0, format_version: int = FORMAT_VERSION) -> TierHead:
        return TierHead(start=start, end=start, format_version=format_version)

    @property
    def live_tail(self) -> tuple[SegmentEntry, ...]:
        """The entries of the tail that a reader may see."""
        return tuple(e for e in self.tail if e.end_offset > self.start)

    # transitions ------------------------------------------------------------------------------------------

    def with_committed(self, *entries: SegmentEntry) -> TierHead:
        """Append copied segments. The first must begin exactly at ``end``, each next one at its predecessor's end. The
        caller must ensure that: after a move of the head it copies again, and never trims an entry."""
        assert entries, "nothing to commit"
        assert len(self.tail) + len(entries) <= TAIL_ENTRIES_MAX, "tail is full: write a page first"
        end = self.end
        for entry in entries:
            assert entry.base_offset == end, f"H1: entry begins at {entry.base_offset}, tier ends at {end}"
            end = entry.end_offset
        return self._next(tail=self.tail + entries, end=end)

    def with_start(self, offset: int, now_ms: int) -> TierHead:
        """Move the log start up to ``offset``; entries wholly below it become retired at ``now_ms``.

        An offset lower than ``start`` changes nothing (so retries and late requests are harmless). Past the end, the
        end follows (T1)."""
        if offset <= self.start:
            return self
        end = max(self.end, offset)
        gone = [e.end_offset for e in self.tail if e.end_offset <= offset]
        paged_end = self.page_index.end_offset if self.page_index else 0
        retired_end = max(gone) if gone else min(offset, paged_end)
        marks = self.retired
        if retired_end > max(self.removed_end, marks[-1].end_offset if marks else 0):
            now_ms = max(now_ms, marks[-1].retired_ms) if marks else now_ms
            marks = (*marks, RetiredMark(retired_end, now_ms))
        return self._next(start=offset, end=end, retired=_bounded(marks))

    def with_page(
        self, page_index: PageIndexRef, moved_count: int, replaced: tuple[MetaObject, ...], now_ms: int
    ) -> TierHead:
        """The ``moved_count`` oldest entries of the tail are now in pages that ``page_index`` lists. The ``replaced``
        objects (the former index and the pages rewritten with it) are stale from now on."""
        assert 0 <= moved_count <= len(self.tail)
        moved = self.tail[:moved_count]
        assert not moved or page_index.end_offset == moved[-1].end_offset, "page index ends with the moved"
        previous = self.page_index
        assert moved or (previous is not None and page_index.end_offset == previous.end_offset)
        assert previous is None or previous.name in replaced, "the former index becomes stale"
        stale = _newest(self.stale + tuple(StaleObject(name, now_ms) for name in replaced))
        return self._next(page_index=page_index, tail=self.tail[moved_count:], stale=stale)

    def with_retired_removed(self, end_offset: int, now_ms: int) -> TierHead:
        """The objects of all retired entries that end at or below ``end_offset`` were deleted, or are left to the sweep.
        The head no longer names pages that held nothing else; they are deleted only after this is committed."""
        assert end_offset <= self.start, "only retired entries are removed"
        if end_offset <= self.removed_end:
            return self
        page_index, stale = self.page_index, self.stale
        if page_index is not None and page_index.end_offset <= end_offset:
            stale = _newest((*stale, StaleObject(page_index.name, now_ms)))
            page_index = None
        return self._next(
            removed_end=end_offset,
            tail=tuple(e for e in self.tail if e.end_offset > end_offset),
            retired=tuple(m for m in self.retired if m.end_offset > end_offset),
            page_index=page_index,
            stale=stale,
        )

    def with_stale_removed(self, names: frozenset[MetaObject]) -> TierHead:
        """The head no longer names these stale page objects; they are deleted once this is committed."""
        return self._next(stale=tuple(s for s in self.stale if s.name not in names))

    def with_replaced(
        self,
        tail: tuple[SegmentEntry, ...],
        page_index: PageIndexRef | None,
        replaced: tuple[MetaObject, ...],
        displaced: Iterable[SegmentEntry],
        now_ms: int,
    ) -> TierHead:
        """Other entries for the same offsets, as ``tiering.replacing`` plans it. The ``replaced`` page objects are
        stale from now on, the objects of ``displaced`` entries displaced."""
        assert self.format_version > FIRST_VERSION, (
            "the first version has no room for what a replacement leaves"
        )
        ended = (page_index is None, page_index and page_index.end_offset)
        assert ended == (self.page_index is None, self.page_index and self.page_index.end_offset), "H1"
        assert page_index == self.page_index or self.page_index is None or self.page_index.name in replaced
        gone = tuple(DisplacedSegment(*each[:4], now_ms) for each in displaced)
        return self._next(
            tail=tail,
            page_index=page_index,
            stale=_newest(self.stale + tuple(StaleObject(name, now_ms) for name in replaced)),
            displaced=self.displaced + gone,
        )

    def with_displaced_removed(self, uuids: frozenset[bytes]) -> TierHead:
        """The head no longer names these displaced objects; they are deleted once this is committed."""
        return self._next(displaced=tuple(each for each in self.displaced if each.uuid not in uuids))

    def raised_to(self, format_version: int) -> TierHead:
        """The same head, to be stored in this version or a newer one; no transition of its own."""
        return self if format_version <= self.format_version else replace(self, format_version=format_version)

    def renewed(self) -> TierHead:
        """The same state under a new sequence: every commit based on the old one fails from now on."""
        return self._next()

    # questions --------------------------------------------------------------------------------------------

    def retired_ms_of(self, end_offset: int) -> int | None:
        """When the entry that ends at ``end_offset`` was retired; None if it is live."""
        if end_offset > self.start:
            return None
        return next((m.retired_ms for m in self.retired if end_offset <= m.end_offset), 0)

    def removable_end(self, now_ms: int, grace_ms: int) -> int:
        """The largest offset such that entries that end at or below it were retired at least ``grace_ms`` ago."""
        due = [m.end_offset for m in self.retired if m.retired_ms + grace_ms <= now_ms]
        return max(due, default=self.removed_end)

    def meta_objects(self) -> frozenset[MetaObject]:
        """Index objects that the head names, stale ones included (pages are named by the index)."""
        current = {self.page_index.name} if self.page_index else set()
        return frozenset(current | {s.name for s in self.stale})

    def check(self) -> None:
        """Assert T1 and H1 to H3."""
        assert self.end >= self.start, "T1"
        assert len(self.tail) <= TAIL_ENTRIES_MAX, "H3"
        assert len(self.retired) <= RETIRED_MARKS_MAX, "H3"
        assert len(self.stale) <= STALE_OBJECTS_MAX, "H3"
        assert len(self.displaced) <= DISPLACED_MAX, "H3"
        assert len(self.origins) <= ORIGINS_MAX, "H3"
        paged_end = self.page_index.end_offset if self.page_index else 0
        previous_end = paged_end
        for entry in self.tail:
            assert entry.base_offset < entry.end_offset, "an entry is never empty"
            assert entry.base_offset >= previous_end, "H2"
            joined = entry.base_offset == previous_end or previous_end <= self.start
            assert joined, "H1"
            previous_end = entry.end_offset
        assert previous_end <= self.end, "H1"
        assert previous_end == self.end or self.start == self.end, "H1"
        assert self.removed_end <= self.start
        assert all(a < b for a, b in zip(self.retired, self.retired[1:], strict=False))
        assert all(self.removed_end < m.end_offset <= self.start for m in self.retired)

    def _next(self, **changes: object) -> TierHead:
        head = replace(self, sequence=self.sequence + 1, **changes)  # type: ignore[arg-type]
        head.check()
        return head


def _newest(stale: tuple[StaleObject, ...]) -> tuple[StaleObject, ...]:
    """Keeps as many as fit. The head no longer names the others, so the sweep deletes them: a head neither grows with the
    objects that a bucket refuses to delete, nor waits for them."""
    return stale[-STALE_OBJECTS_MAX:]


def _bounded(marks: tuple[RetiredMark, ...]) -> tuple[RetiredMark, ...]:
    """At most ``RETIRED_MARKS_MAX`` marks: the newest two become one with the later time. So nothing is deleted before
    its grace is over, and the older marks still expire, however often the start moves."""
    return marks if len(marks) <= RETIRED_MARKS_MAX else (*marks[:-2], marks[-1])


def hash_of_version(version: str) -> int:
    """A store's version token as 63 bits: enough to notice that an object is another one, in the room of a column."""
    return int.from_bytes(hashlib.sha256(version.encode()).digest()[:8], "big") >> 1
