"""What the planner asks for, and what retention never does."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.unit.tiering.heads import entry, head_of, name
from tiering.catalog import Catalog, EntryColumns
from tiering.model import STALE_OBJECTS_MAX, PageIndexRef, TierHead
from tiering.pages import PAGE_ENTRIES_MAX, Pages, move_to_page
from tiering.planner import (
    PAGE_AT_ENTRIES,
    TAIL_KEPT_ENTRIES,
    Action,
    AdvanceStart,
    CopyHead,
    CopySegment,
    DeleteObjects,
    DeleteStale,
    Facts,
    LocalSegment,
    Policy,
    ReportGap,
    WritePage,
    plan,
)
from tiering.retention import retained_start

QUIET = 10**9


def facts(
    head: TierHead, sealed: Sequence[LocalSegment] = (), limit: int = 10**9, pages: Pages | None = None
) -> Facts:
    pages = pages or Pages()
    return Facts(Catalog(head, pages.columns), pages, sealed, limit, head_copied_sequence=head.sequence)


def of_kind(actions: Sequence[Action], kind: type[Action]) -> list[Action]:
    return [a for a in actions if isinstance(a, kind)]


def test_sealed_segments_below_the_limit_are_copied_in_order() -> None:
    sealed = [LocalSegment(0, 10, 5), LocalSegment(10, 20, 5), LocalSegment(20, 30, 5)]
    assert plan(facts(TierHead.empty(), sealed, 25), Policy(), 0) == (
        CopySegment(0, 10, 0),
        CopySegment(10, 20, 10),
    )


def test_a_new_leader_with_other_roll_points_begins_inside_its_segment() -> None:
    sealed = [LocalSegment(0, 25, 5), LocalSegment(25, 40, 5)]
    assert plan(facts(head_of(2), sealed), Policy(), 0) == (CopySegment(20, 25, 0), CopySegment(25, 40, 25))


def test_a_hole_between_tier_and_local_log_is_reported_not_jumped() -> None:
    sealed = [LocalSegment(25, 40, 5)]
    assert plan(facts(head_of(2), sealed), Policy(), 0) == (ReportGap(20, 25),)


def test_copying_can_be_switched_off() -> None:
    sealed = [LocalSegment(0, 10, 5)]
    assert plan(facts(TierHead.empty(), sealed), Policy(is_copy_enabled=False), 0) == ()


@pytest.mark.parametrize(
    ("lag_ms", "lag_bytes", "copied_to"),
    [
        (0, -1, 40),  # Kafka's defaults: no delay
        (500, -1, 20),
        (100, -1, 30),
        (500, 0, 40),
        (-1, -1, 0),  # as a local retention without limit: for ever
        (-1, 15, 20),  # the active segment's bytes count as newer
        (-1, 8, 30),
        (500, 8, 30),  # either is enough
        (10_000, 10_000, 0),
    ],
)
def test_a_copy_waits_until_its_segment_is_old_or_has_enough_behind_it(
    lag_ms: int, lag_bytes: int, copied_to: int
) -> None:
    """The last segment is from now; 5 bytes each, and 5 in the active one."""
    ages_ms = (900, 600, 200, 0)
    sealed = [LocalSegment(10 * n, 10 * n + 10, 5, 1_000 - age_ms) for n, age_ms in enumerate(ages_ms)]
    found = replace(facts(TierHead.empty(), sealed), active_bytes=5)
    actions = plan(found, Policy(copy_lag_ms=lag_ms, copy_lag_bytes=lag_bytes), 1_000)
    assert max((a.end_offset for a in actions if isinstance(a, CopySegment)), default=0) == copied_to


def test_entries_move_to_a_page_before_the_tail_is_full() -> None:
    assert plan(facts(head_of(PAGE_AT_ENTRIES - 1)), Policy(), 0) == ()
    moved = PAGE_AT_ENTRIES - TAIL_KEPT_ENTRIES
    assert plan(facts(head_of(PAGE_AT_ENTRIES)), Policy(), 0) == (WritePage(moved),)


def test_retention_by_time_takes_the_expired_prefix_alone() -> None:
    head = TierHead.empty()
    for base, timestamp in ((0, 100), (10, 200), (20, 900), (30, 150)):
        head = head.with_committed(entry(base, base + 10, timestamp=timestamp))
    move = retained_start(Catalog(head), 0, 500, -1, 1_000)
    assert move is not None
    assert (move.offset, move.by_time, move.by_size) == (20, 2, 0)
    assert retained_start(Catalog(head), 0, -1, -1, 10**12) is None


def test_records_without_timestamps_age_from_their_copy() -> None:
    head = TierHead.empty().with_committed(entry(0, 10, timestamp=-1))
    assert retained_start(Catalog(head), 0, 1_000, -1, 51_000) is None
    assert retained_start(Catalog(head), 0, 1_000, -1, 51_001) is not None


def test_retention_by_size_counts_each_offset_once() -> None:
    head = head_of(5)
    sealed = [LocalSegment(0, 30, 300), LocalSegment(30, 60, 300), LocalSegment(60, 70, 100)]
    f = facts(head, sealed, limit=50)
    # 500 remote; of the local segments only the one behind the tiered end counts.
    assert not of_kind(plan(f, Policy(retention_bytes=600), QUIET), AdvanceStart)
    (advance,) = of_kind(plan(f, Policy(retention_bytes=450), QUIET), AdvanceStart)
    assert isinstance(advance, AdvanceStart)
    assert advance.offset == 10


def test_retention_never_passes_the_tiered_end() -> None:
    move = retained_start(Catalog(head_of(3)), 10**9, 0, 0, 10**12)
    assert move is not None
    assert move.offset == 30


def test_what_is_never_copied_expires_too() -> None:
    sealed = [LocalSegment(30, 40, 200, 150), LocalSegment(40, 50, 100, 900), LocalSegment(50, 60, 100, 100)]
    f = facts(head_of(3, timestamp=100), sealed, limit=55)
    off = Policy(retention_ms=500, is_copy_enabled=False)
    (advance,) = of_kind(plan(f, off, 1_000), AdvanceStart)
    assert isinstance(advance, AdvanceStart)
    assert (advance.offset, advance.move.by_time) == (40, 4)
    (advance,) = of_kind(plan(f, Policy(retention_ms=500), 1_000), AdvanceStart)
    assert isinstance(advance, AdvanceStart)
    assert advance.offset == 30
    (advance,) = of_kind(plan(f, Policy(retention_bytes=0, is_copy_enabled=False), 0), AdvanceStart)
    assert isinstance(advance, AdvanceStart)
    assert advance.offset == 50  # not above the copy limit


def test_the_stricter_limit_wins() -> None:
    head = head_of(4, timestamp=100)
    by_size = retained_start(Catalog(head), 0, 10**6, 150, 1_000)
    by_time = retained_start(Catalog(head), 0, 10, 350, 1_000)
    assert by_size is not None
    assert (by_size.offset, by_size.by_time, by_size.by_size) == (20, 0, 2)
    assert by_time is not None
    assert (by_time.offset, by_time.by_time) == (40, 4)


def test_objects_go_only_after_their_grace() -> None:
    head = head_of(4).with_start(20, 1_000)
    policy = Policy(delete_grace_ms=500)
    assert plan(facts(head), policy, 1_499) == ()
    assert plan(facts(head), policy, 1_500) == (DeleteObjects(head.tail[:2], (), 20),)


def test_head_copies_follow_the_sequence_at_intervals() -> None:
    head = head_of(2)
    f = Facts(Catalog(head), Pages(), (), 0, head_copied_sequence=1, head_copied_ms=1_000)
    assert plan(f, Policy(head_copy_interval_ms=500), 1_499) == ()
    assert plan(f, Policy(head_copy_interval_ms=500), 1_500) == (CopyHead(2),)


def grow(segments: int) -> tuple[TierHead, Pages, list[int]]:
    """A head that moved its entries to pages as the planner asks."""
    head, pages, number = TierHead.empty(), Pages(), 0
    bases = []
    for i in range(segments):
        head = head.with_committed(entry(10 * i, 10 * i + 10, timestamp=i))
        bases.append(10 * i)
        for action in plan(facts(head, pages=pages), Policy(), 0):
            if isinstance(action, DeleteStale):
                head = head.with_stale_removed(action.names)
            if isinstance(action, WritePage):
                number += 2
                move = move_to_page(head, pages, action.moved_count, name(number), name(number + 1))
                head = head.with_page(move.index_ref, action.moved_count, move.replaced, i * 100_000)
                pages = move.pages
    return head, pages, bases


def test_pages_fill_up_and_hold_everything() -> None:
    head, pages, bases = grow(PAGE_ENTRIES_MAX * 2 + 100)
    assert [row.entry_count for row in pages.rows][:-1] == [1_000, 1_000]
    assert [e.base_offset for e in Catalog(head, pages.columns)] == bases
    assert head.page_index is not None
    assert head.page_index.entry_count == len(pages.columns) == len(bases) - len(head.tail)


def test_stale_names_never_hold_up_a_page_and_never_fill_the_head() -> None:
    head, _, _ = grow(10)
    stale = tuple(name(i) for i in range(1_000, 1_100))
    head = head.with_committed(*(entry(100 + i, 101 + i) for i in range(48)))
    head = head.with_page(PageIndexRef(name(1), 0, 10, 1, 1), 1, stale, 0)
    assert [s.name for s in head.stale] == list(stale[-STALE_OBJECTS_MAX:]), (
        "the oldest are left to the sweep"
    )
    pages = Pages((), EntryColumns.of([entry(0, 10)]))
    actions = plan(facts(head, pages=pages), Policy(), 1)
    assert not of_kind(actions, DeleteStale)
    assert of_kind(actions, WritePage)
    head = head.with_start(10, 1).with_retired_removed(10, 2)
    assert len(head.stale) == STALE_OBJECTS_MAX
    assert head.stale[-1].name == name(1)
    assert of_kind(plan(facts(head), Policy(), 10**6), DeleteStale)


def test_a_catalog_of_pages_and_tail_answers_like_a_list() -> None:
    head, pages, _ = grow(300)
    head = head.with_start(515, 1)
    catalog = Catalog(head, pages.columns)
    entries = [e for e in (*pages.columns, *head.tail) if e.end_offset > 515]
    assert list(catalog) == entries
    assert len(catalog) == len(entries)
    assert catalog.data_bytes == sum(e.data_bytes for e in entries)
    rng = random.Random(3)
    for _ in range(200):
        offset = rng.randrange(0, 3_100)
        want = next((e for e in entries if e.base_offset <= offset < e.end_offset), None)
        assert catalog.find(offset) == (want if offset >= 515 else None)
        timestamp = rng.randrange(0, 400)
        start = rng.randrange(515, 3_000)
        found = next((e for e in entries if e.end_offset > start and e.max_timestamp_ms >= timestamp), None)
        assert catalog.find_by_timestamp(timestamp, start) == found
    assert [e.end_offset for e in catalog.retired(10**9)] == list(range(10, 511 + 1, 10))


def test_removed_pages_leave_the_index_and_are_deleted_with_their_entries() -> None:
    head, pages, _ = grow(1_200)
    first = pages.rows[0]
    head = head.with_start(first.end_offset + 15, 10**9)
    deleted: list[int] = []
    now = 2 * 10**9
    while True:
        due = of_kind(plan(facts(head, pages=pages), Policy(), now), DeleteObjects)
        if not due:
            break
        (action,) = due
        assert isinstance(action, DeleteObjects)
        assert len(action.entries) <= 500
        deleted += [e.base_offset for e in action.entries]
        if action.pages:
            assert action.pages == (first.name,)
        head = head.with_retired_removed(action.end_offset, now)
    assert deleted == list(range(0, first.end_offset + 10, 10))
    move = move_to_page(head, pages, 3, name(9_001), name(9_002))
    assert first.name not in {row.name for row in move.pages.rows}
    assert first.name not in move.replaced
    after = head.with_page(move.index_ref, 3, move.replaced, now)
    assert list(Catalog(after, move.pages.columns)) == list(Catalog(head, pages.columns))
