"""The objects of one partition in a simulated bucket that loses answers, keeps what it should delete, and forgets pages.

* A put may stand though its answer was lost, arrive long after its sender was deposed or gave up, or never.
* A delete may be refused for one object (a legal hold) or, for long times, for all.
* A page, or a page index, may vanish that a head still needs.

``check`` holds it against a head: what was ever named and not removed exists, every page that is needed exists unless it was
made to vanish, and the newest copy of the head never becomes an older one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, TypeVar

from tiering.catalog import Catalog, EntryColumns
from tiering.keys import PartitionKeys, SegmentName
from tiering.lifecycle import ObjectName
from tiering.model import MetaObject, SegmentEntry, TierHead
from tiering.pages import PageChange, PageRow, Pages, lost_entry, lost_index_row

KEYS = PartitionKeys("c", bytes(16), 0)

ContentT = TypeVar("ContentT")


class TierBucket(Generic[ContentT]):
    """``faults`` scales how often anything goes wrong."""

    def __init__(self, rng: random.Random, fail: Callable[[str], None], *, faults: float = 1.0) -> None:
        self.rng = rng
        self.fail = fail
        self.faults = faults
        self.segments: dict[SegmentName, ContentT] = {}
        self.pages: dict[MetaObject, EntryColumns] = {}
        self.indexes: dict[MetaObject, tuple[PageRow, ...]] = {}
        self.heads: dict[str, TierHead] = {}
        self.held: set[ObjectName | str] = set()
        self.is_refusing = False
        self.vanished: set[MetaObject] = set()
        self.counts = {"late puts": 0, "refused deletes": 0, "vanished pages": 0}
        self.version = 0
        """Counts the changes."""
        self._loaded: tuple[object, Pages] = (None, Pages())
        self._late: list[Callable[[], None]] = []
        self._named: dict[SegmentName, int] = {}
        self._seen_sequence = -1

    # -- verbs

    def put_segment(self, name: SegmentName, content: ContentT) -> bool:
        """Whether it stands, as far as the sender knows."""
        return self._put(name, lambda: self.segments.__setitem__(name, content))

    def put_pages(self, change: PageChange) -> bool:
        index, rows = change.index_ref.name, change.pages.rows
        for row, entries in change.written:
            if not self._put(row.name, partial(self.pages.__setitem__, row.name, entries)):
                return False
        return self._put(index, lambda: self.indexes.__setitem__(index, rows))

    def put_head(self, head: TierHead) -> bool:
        key = KEYS.head_copy(head.sequence)
        return self._put(key, lambda: self.heads.__setitem__(key, head))

    def _put(self, name: ObjectName | str, write: Callable[[], None]) -> bool:
        if self.rng.random() < 0.02 * self.faults:
            self.held.add(name)
        fate = self.rng.random()
        self.version += 1
        if fate >= 0.1 * self.faults:
            write()
            return True
        if fate < 0.04 * self.faults:
            write()
        elif fate < 0.08 * self.faults:
            self.counts["late puts"] += 1
            self._late.append(write)
        return False

    def delete(self, names: Iterable[ObjectName | str]) -> set[ObjectName | str]:
        """Those that are refused."""
        refused: set[ObjectName | str] = set()
        self.version += 1
        for name in names:
            if self.is_refusing or name in self.held:
                if self._stands(name):
                    refused.add(name)
                continue
            if isinstance(name, SegmentName):
                self.segments.pop(name, None)
            elif isinstance(name, MetaObject):
                self.pages.pop(name, None)
                self.indexes.pop(name, None)
            else:
                self.heads.pop(name, None)
        self.counts["refused deletes"] += len(refused)
        return refused

    def _stands(self, name: ObjectName | str) -> bool:
        return name in self.segments or name in self.pages or name in self.indexes or name in self.heads

    def names(self) -> list[ObjectName]:
        """A listing of segments, pages and indexes."""
        return [*sorted(self.segments), *sorted({*self.pages, *self.indexes})]

    def load(self, head: TierHead) -> Pages:
        """As ``Manifests.load``."""
        key = (head.page_index, head.removed_end, head.tail[:1], self.version)
        if self._loaded[0] != key:
            self._loaded = (key, self._load(head))
        return self._loaded[1]

    def _load(self, head: TierHead) -> Pages:
        ref = head.page_index
        if ref is None:
            return Pages()
        if ref.name not in self.indexes:
            row = lost_index_row(ref)
            return Pages((row,), EntryColumns.of([lost_entry(row, head)]), (row,))
        rows = tuple(row for row in self.indexes[ref.name] if row.end_offset > head.removed_end)
        lost = tuple(row for row in rows if row.name not in self.pages)
        parts = [
            EntryColumns.of([lost_entry(row, head)]) if row in lost else self.pages[row.name] for row in rows
        ]
        return Pages(rows, EntryColumns.concat(parts), lost)

    def newest_head(self) -> TierHead | None:
        """As ``Manifests.get_head``."""
        return self.heads[max(self.heads)] if self.heads else None

    # -- chance

    def disturb(self, head: TierHead) -> None:
        rng = self.rng
        if self._late and rng.random() < 0.1:
            self.version += 1
            self._late.pop(rng.randrange(len(self._late)))()
        if rng.random() < 0.004 * self.faults:
            self.is_refusing = not self.is_refusing
        if rng.random() < 0.002 * self.faults and head.tail and head.tail[-1].end_offset > head.start:
            self._make_vanish(head)

    def _make_vanish(self, head: TierHead) -> None:
        ref = head.page_index
        if ref is None or ref.name not in self.indexes:
            return
        names = [row.name for row in self.indexes[ref.name] if row.end_offset > head.removed_end]
        name = self.rng.choice([*names, ref.name])
        self.vanished.add(name)
        self.version += 1
        self.counts["vanished pages"] += 1
        self.pages.pop(name, None)
        self.indexes.pop(name, None)

    def calm(self) -> None:
        """Everything under way arrives, and deletes work from now on."""
        self.faults = 0
        self.is_refusing = False
        self.held.clear()
        for write in self._late:
            write()
        self._late.clear()
        self.version += 1

    # -- what must hold

    def on_named(self, entries: Iterable[SegmentEntry]) -> None:
        """These are in a head that was committed."""
        for entry in entries:
            self._named[SegmentName(*entry[:4])] = entry.end_offset

    def check(self, head: TierHead, now_ms: int, grace_ms: int) -> None:
        self._named = {name: end for name, end in self._named.items() if end > head.removed_end}
        for name, end in self._named.items():
            if name not in self.segments:
                retired_ms = head.retired_ms_of(end)
                if retired_ms is None or now_ms < retired_ms + grace_ms:
                    self.fail(
                        f"I13: the object of [{name.base_offset}, {end}) is gone, retired: {retired_ms}"
                    )
        pages = self.load(head)
        for row in pages.lost:
            if row.name not in self.vanished:
                self.fail(f"I13: the page {row.name.sequence} that the head needs is gone")
        newest = self.newest_head()
        sequence = -1 if newest is None else newest.sequence
        if sequence < self._seen_sequence:
            self.fail(f"I13: the newest head copy was of {self._seen_sequence}, and is of {sequence} now")
        if sequence > head.sequence:
            self.fail(f"a copy of head {sequence} stands before it is committed: {head.sequence}")
        self._seen_sequence = sequence

    def check_clean(self, head: TierHead) -> None:
        """At rest: nothing stands but what the head names, and one copy of that head."""
        if why := self.remains(head):
            self.fail(why)

    def remains(self, head: TierHead) -> str:
        """What stands beside that; "" if nothing does."""
        pages = self.load(head)
        wanted = {*head.meta_objects(), *(row.name for row in pages.rows)}
        # Of pages that one cannot know of any more, some stay until their range is removed.
        lost = max((row.name.sequence for row in pages.lost), default=-1)
        strays = {n for n in (*self.pages, *self.indexes) if n not in wanted and n.sequence > lost}
        if strays:
            return f"pages remain: {strays}"
        catalog = Catalog(head, pages.columns)
        listed = {SegmentName(*entry[:4]) for entry in (*catalog, *catalog.retired(head.start))}
        # What a lost page may name stays too.
        orphans = {
            name
            for name in set(self.segments) - set(self._named) - listed
            if not any(row.base_offset <= name.base_offset < row.end_offset for row in pages.lost)
        }
        if orphans:
            return f"orphans remain: {orphans}"
        if list(self.heads.values()) != [head] * bool(
            head.sequence
        ):  # What was never committed is not copied.
            return f"head copies {sorted(self.heads)}, the head is {head.sequence}"
        return ""
