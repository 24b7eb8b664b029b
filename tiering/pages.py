"""How entries move from the head to pages, and what the page index then lists. Pure.

A page holds up to ``PAGE_ENTRIES_MAX`` entries. Moving entries rewrites the newest page while there is room in
it and begins another one else; the page index is rewritten with every move. Pages whose entries were all
removed are dropped from the index.
"""

from __future__ import annotations

from typing import NamedTuple

from tiering.catalog import EMPTY_COLUMNS, EntryColumns
from tiering.model import MetaObject, PageIndexRef, TierHead

PAGE_ENTRIES_MAX = 1024


class PageRow(NamedTuple):
    """One page, as the page index lists it."""

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


class PageMove(NamedTuple):
    """Objects to write (page first, then index), and the transition to commit then."""

    page: PageRow
    page_columns: EntryColumns
    index_ref: PageIndexRef
    pages: Pages
    """What the pages hold once this is committed."""
    moved_count: int
    replaced: tuple[MetaObject, ...]


def move_to_page(
    head: TierHead, pages: Pages, moved_count: int, page_name: MetaObject, index_name: MetaObject
) -> PageMove:
    """Move the ``moved_count`` oldest entries of the tail. Both names are fresh."""
    assert 0 < moved_count <= len(head.tail)
    assert page_name != index_name
    moved = EntryColumns.of(head.tail[:moved_count])
    kept = [row for row in pages.rows if row.end_offset > head.removed_end]
    columns = pages.columns.sliced(pages.columns.index_of(head.removed_end), len(pages.columns))
    replaced = [head.page_index.name] if head.page_index else []
    page_columns = moved
    if kept and kept[-1].entry_count + moved_count <= PAGE_ENTRIES_MAX:
        last = kept.pop()
        replaced.append(last.name)
        first = columns.index_of(max(last.base_offset, head.removed_end))
        page_columns = EntryColumns.concat([columns.sliced(first, len(columns)), moved])
    page = PageRow(
        page_name,
        page_columns[0].base_offset,
        page_columns[len(page_columns) - 1].end_offset,
        len(page_columns),
        page_columns.bytes_between(0, len(page_columns)),
        max(page_columns.column("max_timestamp_ms")),
    )
    rows = (*kept, page)
    index_ref = PageIndexRef(
        index_name,
        rows[0].base_offset,
        page.end_offset,
        sum(row.entry_count for row in rows),
        len(rows),
    )
    after = Pages(rows, EntryColumns.concat([columns, moved]))
    return PageMove(page, page_columns, index_ref, after, moved_count, tuple(replaced))
