"""Moves entries from the head to pages, and computes the page index that lists them. Pure.

A page holds up to ``PAGE_ENTRIES_MAX`` entries. Moving entries rewrites the newest page while it has room, and
otherwise begins another one; every move rewrites the page index. Pages whose entries were all removed are dropped
from the index.

A page that cannot be read costs only its own range: one entry stands for it (``lost_entry``), from which nothing can be
read, and all else goes on. It is listed until its range is removed and is never merged with others; until then no object
that it may have named is deleted as an orphan. A page index that cannot be read counts as one lost page of all it listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tiering.catalog import EMPTY_COLUMNS, EntryColumns
from tiering.model import (
    NO_TIMESTAMP,
    STANDS_FOR_LOST_PAGE,
    MetaObject,
    PageIndexRef,
    SegmentEntry,
    TierHead,
)

PAGE_ENTRIES_MAX = 1024
_NEVER_MS = 2**62


class PageRow(NamedTuple):
    """One page, as the page index lists it. It holds the entries of ``[base_offset, end_offset)``."""

    name: MetaObject
    base_offset: int
    end_offset: int
    entry_count: int
    data_bytes: int
    max_timestamp_ms: int


class Pages(NamedTuple):
    """All that the pages of one head hold."""

    rows: tuple[PageRow, ...] = ()
    columns: EntryColumns = EMPTY_COLUMNS
    """The entries of all rows, in order."""
    lost: tuple[PageRow, ...] = ()
    """The rows whose pages cannot be read."""


def lost_index_row(ref: PageIndexRef) -> PageRow:
    """All that the lost index listed, as one page."""
    return PageRow(ref.name, ref.base_offset, ref.end_offset, ref.entry_count, 0, NO_TIMESTAMP)


def lost_entry(row: PageRow, head: TierHead) -> SegmentEntry:
    """Stands for all entries of a page that cannot be read. If the index has no timestamp for it, it gets that of the oldest
    entry behind it, so that retention removes it no earlier than that one."""
    newer_ms = min((e.created_ms for e in head.tail), default=_NEVER_MS)
    timestamp_ms = row.max_timestamp_ms if row.max_timestamp_ms >= 0 else newer_ms
    return SegmentEntry(
        row.base_offset,
        row.end_offset,
        row.name.leader_epoch,
        row.name.uuid,
        row.data_bytes,
        row.data_bytes,
        row.data_bytes,
        timestamp_ms,
        timestamp_ms,
        newer_ms,
        row.name.leader_epoch,
        STANDS_FOR_LOST_PAGE,
    )


class PageChange(NamedTuple):
    """Objects to write (pages first, then the index), and what to commit afterwards."""

    written: tuple[tuple[PageRow, EntryColumns], ...]
    """New pages with their entries."""
    index_ref: PageIndexRef
    """The new index."""
    pages: Pages
    """The contents of the pages once this is committed."""
    replaced: tuple[MetaObject, ...]
    """The index and pages that are not needed any more."""


def move_to_page(
    head: TierHead,
    pages: Pages,
    moved_count: int,
    page_name: MetaObject,
    index_name: MetaObject,
    page_entries_max: int = PAGE_ENTRIES_MAX,
) -> PageChange:
    """Move the ``moved_count`` oldest entries of the tail. Both names must be fresh."""
    assert 0 < moved_count <= len(head.tail)
    assert page_name != index_name
    moved = EntryColumns.of(head.tail[:moved_count])
    kept = [row for row in pages.rows if row.end_offset > head.removed_end]
    columns = pages.columns.sliced(pages.columns.index_of(head.removed_end), len(pages.columns))
    replaced = [head.page_index.name] if head.page_index else []
    page_columns = moved
    lost = tuple(row for row in pages.lost if row in kept)
    if kept and kept[-1] not in lost and kept[-1].entry_count + moved_count <= page_entries_max:
        last = kept.pop()
        replaced.append(last.name)
        first = columns.index_of(max(last.base_offset, head.removed_end))
        page_columns = EntryColumns.concat([columns.sliced(first, len(columns)), moved])
    page = row_of(page_name, page_columns)
    rows = (*kept, page)
    after = Pages(rows, EntryColumns.concat([columns, moved]), lost)
    return PageChange(((page, page_columns),), index_of(index_name, rows), after, tuple(replaced))


def row_of(name: MetaObject, entries: EntryColumns) -> PageRow:
    """The index's row for a page of these entries."""
    return PageRow(
        name,
        entries[0].base_offset,
        entries[len(entries) - 1].end_offset,
        len(entries),
        entries.bytes_between(0, len(entries)),
        max(entries.column("max_timestamp_ms")),
    )


def index_of(name: MetaObject, rows: Sequence[PageRow]) -> PageIndexRef:
    """The reference to an index of these rows."""
    entry_count = sum(row.entry_count for row in rows)
    return PageIndexRef(name, rows[0].base_offset, rows[-1].end_offset, entry_count, len(rows))
