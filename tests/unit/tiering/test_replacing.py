"""One primitive changes entries: whatever is replaced, the offsets stay covered once, and no other commit is overrun."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tiering.heads import entry, head_of, name
from tiering.catalog import Catalog, EntryColumns
from tiering.keys import SegmentName
from tiering.lifecycle import Named
from tiering.model import DISPLACED_MAX, MetaObject, SegmentEntry, TierHead
from tiering.pages import Pages, move_to_page
from tiering.planner import DeleteDisplaced, Facts, Policy, plan
from tiering.replacing import Replacement, replace_entries

COLDER = {"storage_class": 2, "class_since_ms": 99, "version_hash": 5}


def names() -> Callable[[], MetaObject]:
    numbers = count(1_000)
    return lambda: name(next(numbers))


def tier_of(paged: int, tail: int) -> tuple[TierHead, Pages]:
    """``paged`` entries in pages of 4 and ``tail`` in the head; ten offsets each."""
    head, pages = TierHead.empty(), Pages()
    for at in range(paged + tail):
        head = head.with_committed(entry(10 * at, 10 * at + 10))
        if len(head.tail) == 4 and head.end <= 10 * paged:
            change = move_to_page(head, pages, 4, name(2 * at), name(2 * at + 1), 4)
            head, pages = head.with_page(change.index_ref, 4, change.replaced, 0), change.pages
    return head, pages


def carried_out(head: TierHead, pages: Pages, done: Replacement, now_ms: int = 7) -> tuple[TierHead, Pages]:
    after = done.after(head, now_ms)
    assert after is not None
    for row, entries in done.change.written if done.change else ():
        assert (row.base_offset, row.end_offset, row.entry_count) == (
            entries[0].base_offset,
            entries[len(entries) - 1].end_offset,
            len(entries),
        )
    return after, done.change.pages if done.change else pages


@given(st.sampled_from([0, 4, 12]), st.integers(1, 6), st.data())
def test_a_class_changes_in_place_wherever_the_entry_is(paged: int, tail: int, data: st.DataObject) -> None:
    head, pages = tier_of(paged, tail)
    before = list(Catalog(head, pages.columns))
    at = data.draw(st.integers(0, len(before) - 1))
    done = replace_entries(head, pages, [before[at]._replace(**COLDER)], names())
    assert done is not None
    after, changed = carried_out(head, pages, done)
    expected = [*before[:at], before[at]._replace(**COLDER), *before[at + 1 :]]
    assert list(Catalog(after, changed.columns)) == expected
    assert (after.displaced, after.sequence) == ((), head.sequence + 1)
    assert all(each.name in Named.of(after, changed) for each in changed.rows)
    # The head it was planned from is gone: it is not committed twice, nor over another.
    assert done.after(after, 8) is None


@given(st.sampled_from([0, 4, 12]), st.integers(1, 6), st.data())
def test_a_run_is_merged_and_what_it_was_made_of_stays_for_the_grace(
    paged: int, tail: int, data: st.DataObject
) -> None:
    head, pages = tier_of(paged, tail)
    before = list(Catalog(head, pages.columns))
    first = data.draw(st.integers(0, len(before) - 1))
    last = data.draw(st.integers(first, len(before) - 1))
    merged = entry(10 * first, 10 * last + 10, number=77_777)._replace(generation=1)
    done = replace_entries(head, pages, [merged], names())
    if first < paged <= last:
        assert done is None, "it would lie across the border of pages and tail"
        return
    assert done is not None
    after, changed = carried_out(head, pages, done)
    assert list(Catalog(after, changed.columns)) == [*before[:first], merged, *before[last + 1 :]]
    named = Named.of(after, changed)
    displaced = before[first : last + 1]
    assert [each.uuid for each in after.displaced] == [each.uuid for each in displaced]
    assert all(SegmentName(*each[:4]) in named for each in (*displaced, merged))
    policy = Policy(delete_grace_ms=1_000)
    assert not any(isinstance(a, DeleteDisplaced) for a in plan(facts(after, changed), policy, 1_006))
    (action,) = (a for a in plan(facts(after, changed), policy, 1_007) if isinstance(a, DeleteDisplaced))
    later = after.with_displaced_removed(frozenset(each.uuid for each in action.segments))
    assert later.displaced == ()
    assert not any(SegmentName(*each[:4]) in Named.of(later, changed) for each in displaced)


def facts(head: TierHead, pages: Pages) -> Facts:
    return Facts(Catalog(head, pages.columns), pages, (), 0)


def test_what_is_not_bounded_as_the_entries_are_is_refused() -> None:
    head, pages = tier_of(4, 3)
    for base, end in ((5, 20), (10, 25), (45, 60), (60, 80), (0, 5)):
        assert replace_entries(head, pages, [entry(base, end, number=9)], names()) is None
    assert replace_entries(head, pages, [entry(70, 80, number=9)], names()) is None, "there is none"


def test_what_is_retired_or_removed_is_left_alone_and_a_start_inside_an_entry_is_not() -> None:
    head, pages = tier_of(8, 3)
    moved = head.with_start(25, 1)
    assert replace_entries(moved, pages, [entry(10, 20)._replace(**COLDER)], names()) is None
    done = replace_entries(moved, pages, [entry(20, 30)._replace(**COLDER)], names())
    assert done is not None
    # DeleteRecords may go first: the entries are the same ones.
    after, changed = carried_out(moved.with_start(27, 2), pages, done)
    first = Catalog(after, changed.columns).first
    assert (after.start, first) == (27, entry(20, 30)._replace(**COLDER))
    # But not a removal, which rewrites what pages are named.
    assert done.after(moved.with_retired_removed(20, 3), 4) is None


def test_a_page_that_cannot_be_read_is_never_replaced() -> None:
    head, pages = tier_of(8, 1)
    broken = pages._replace(lost=pages.rows[:1])
    assert replace_entries(head, broken, [entry(10, 20)._replace(**COLDER)], names()) is None
    done = replace_entries(head, broken, [entry(50, 60)._replace(**COLDER)], names())
    assert done is not None and done.change is not None
    assert done.change.pages.lost == pages.rows[:1]
    assert pages.rows[0].name not in done.change.replaced


def test_more_than_can_be_displaced_is_not_replaced_at_once() -> None:
    head = head_of(64)
    done = replace_entries(head, Pages(), [entry(0, 640, number=9)], names())
    assert done is not None
    full, _ = carried_out(head, Pages(), done)
    # What is displaced stays named for its grace: the next waits.
    assert replace_entries(full, Pages(), [entry(0, 640, number=8)], names()) is None
    in_place = replace_entries(full, Pages(), [full.tail[0]._replace(**COLDER)], names())
    assert in_place is not None
    held = [entry(10 * at, 10 * at + 10) for at in range(DISPLACED_MAX + 1)]
    big = Pages((), EntryColumns.of(held))
    change = move_to_page(head_of(1), Pages(), 1, name(1), name(2))
    row = change.pages.rows[0]._replace(end_offset=held[-1].end_offset, entry_count=len(held))
    index = change.index_ref._replace(end_offset=row.end_offset, entry_count=len(held))
    paged = TierHead(0, row.end_offset, page_index=index)
    pages = big._replace(rows=(row,))
    assert replace_entries(paged, pages, [entry(0, row.end_offset, number=9)], names()) is None


@pytest.mark.parametrize("entries", [[entry(0, 10), entry(20, 30)]])
def test_entries_that_do_not_adjoin_are_a_mistake(entries: list[SegmentEntry]) -> None:
    head, pages = tier_of(0, 3)
    with pytest.raises(AssertionError):
        replace_entries(head, pages, entries, names())
