"""Replace the entries of ``[start, end)`` by others for the same offsets: the one primitive of all that changes them later.

Changing a storage class replaces an entry by itself with other facts; merging, compaction, migration and repair put other
objects in the place of some. Pure: ``replace_entries`` says which pages to write, and which head to commit afterwards.

Rules:

* Both bounds are entry boundaries, and the new entries adjoin from the one to the other. All of them are live: nothing is
  changed that retention has let go.
* Pages are immutable: those that hold any of the entries are written anew, and the index with them. A page that cannot be
  read is never replaced.
* An object that no new entry names is displaced: readers of older heads may still need it.
* The commit compares the head, as every other one does: two replacements of the same entries can't both happen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from tiering.catalog import EntryColumns
from tiering.model import DISPLACED_MAX, MetaObject, SegmentEntry, TierHead
from tiering.pages import PAGE_ENTRIES_MAX, PageChange, PageRow, Pages, index_of, row_of


class Replacement(NamedTuple):
    """Write the pages of ``change``, then commit ``after(head, ...)``."""

    change: PageChange | None
    """None: all of the entries are in the head's tail."""
    tail: tuple[SegmentEntry, ...]
    displaced: tuple[SegmentEntry, ...]
    based_on: TierHead

    def after(self, head: TierHead, now_ms: int) -> TierHead | None:
        """The head to commit; None if the entries are not those that were planned for (another commit went first)."""
        based_on = self.based_on
        same = (head.tail, head.page_index, head.removed_end) == (
            based_on.tail,
            based_on.page_index,
            based_on.removed_end,
        )
        if not same:
            return None
        change = self.change
        ref, replaced = (change.index_ref, change.replaced) if change else (head.page_index, ())
        return head.with_replaced(self.tail, ref, replaced, self.displaced, now_ms)


def replace_entries(
    head: TierHead, pages: Pages, entries: Sequence[SegmentEntry], name: Callable[[], MetaObject]
) -> Replacement | None:
    """``entries`` take the place of all that cover their offsets; ``name`` gives fresh names for pages. None if there are no
    such entries any more: retired, or not bounded where these are, or in a page that cannot be read."""
    start, end = entries[0].base_offset, entries[-1].end_offset
    assert all(a.end_offset == b.base_offset for a, b in pairwise(entries))
    paged_end = head.page_index.end_offset if head.page_index else 0
    in_tail = tuple(each for each in entries if each.base_offset >= paged_end)
    in_pages = tuple(each for each in entries if each.base_offset < paged_end)
    if in_tail and in_pages and in_pages[-1].end_offset != paged_end:
        return None
    tail = _with_run(head.tail, in_tail)
    change = _changed_pages(head, pages, in_pages, name) if in_pages else None
    if tail is None or (in_pages and change is None) or end > head.end:
        return None
    if not _begins_live(head, pages, start):
        return None
    kept = {each.uuid for each in entries}
    old = [*_run(pages.columns, in_pages), *_run(head.tail, in_tail)]
    displaced = tuple(each for each in old if each.uuid not in kept)
    if len(head.displaced) + len(displaced) > DISPLACED_MAX:
        return None
    return Replacement(change, tail, displaced, head)


def _begins_live(head: TierHead, pages: Pages, start: int) -> bool:
    """Whether an entry begins at ``start`` and is not retired."""
    at = pages.columns.index_of(start)
    paged = pages.columns[at] if head.page_index and at < len(pages.columns) else None
    found = paged or next((each for each in head.tail if each.end_offset > start), None)
    return found is not None and found.base_offset == start and found.end_offset > head.start


def _run(held: Sequence[SegmentEntry] | EntryColumns, new: Sequence[SegmentEntry]) -> list[SegmentEntry]:
    """The entries whose offsets the new ones cover."""
    if not new:
        return []
    if isinstance(held, EntryColumns):
        first, last = held.index_of(new[0].base_offset), held.index_of(new[-1].end_offset)
        return [held[at] for at in range(first, last)]
    return [e for e in held if new[0].base_offset <= e.base_offset < new[-1].end_offset]


def _with_run(held: Sequence[SegmentEntry], new: Sequence[SegmentEntry]) -> tuple[SegmentEntry, ...] | None:
    """The entries with ``new`` in the place of those that it covers; None if the bounds differ."""
    if not new:
        return tuple(held)
    old = _run(held, new)
    if not old or (old[0].base_offset, old[-1].end_offset) != (new[0].base_offset, new[-1].end_offset):
        return None
    at = held.index(old[0])
    return (*held[:at], *new, *held[at + len(old) :])


def _changed_pages(
    head: TierHead, pages: Pages, new: Sequence[SegmentEntry], name: Callable[[], MetaObject]
) -> PageChange | None:
    """The pages that hold the entries, written anew. None if they are not bounded so, or in a page that cannot be read."""
    ref = head.page_index
    assert ref is not None
    start, end = new[0].base_offset, new[-1].end_offset
    touched = [row for row in pages.rows if row.end_offset > start and row.base_offset < end]
    if not touched or any(row in pages.lost for row in touched):
        return None
    first = pages.columns.index_of(max(touched[0].base_offset, head.removed_end))
    last = pages.columns.index_of(touched[-1].end_offset)
    held = [pages.columns[at] for at in range(first, last)]
    run = _with_run(held, new)
    if run is None:
        return None
    written = tuple(_cut(run, name))
    at = pages.rows.index(touched[0])
    kept_before = [row for row in pages.rows[:at] if row.end_offset > head.removed_end]
    rows = (*kept_before, *(row for row, _ in written), *pages.rows[at + len(touched) :])
    columns = EntryColumns.concat(
        [
            pages.columns.sliced(pages.columns.index_of(head.removed_end), first),
            *(entries for _, entries in written),
            pages.columns.sliced(last, len(pages.columns)),
        ]
    )
    lost = tuple(row for row in pages.lost if row in rows)
    replaced = (ref.name, *(row.name for row in touched))
    return PageChange(written, index_of(name(), rows), Pages(rows, columns, lost), replaced)


def _cut(
    entries: Sequence[SegmentEntry], name: Callable[[], MetaObject]
) -> list[tuple[PageRow, EntryColumns]]:
    """Pages of at most ``PAGE_ENTRIES_MAX`` entries."""
    found = []
    for start in range(0, len(entries), PAGE_ENTRIES_MAX):
        columns = EntryColumns.of(entries[start : start + PAGE_ENTRIES_MAX])
        found.append((row_of(name(), columns), columns))
    return found
