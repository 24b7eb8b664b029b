"""Where a segment belongs by its age: down only, never too early, never twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tiering.heads import entry
from tests.unit.tiering.test_replacing import tier_of
from tiering.catalog import Catalog
from tiering.ladder import (
    BILLED_BYTES_MIN,
    DAY_MS,
    ENTRIES_PER_LOOK,
    MOVES_PER_LOOK,
    Found,
    Ladder,
    Rung,
    Why,
    class_at_copy,
    found_as,
    look,
    verdict,
    with_moves,
)
from tiering.model import STANDS_FOR_LOST_PAGE, SegmentEntry, TierHead, hash_of_version
from tiering.objects.classes import GCS_CLASSES, S3_CLASSES, StorageClass
from tiering.objects.port import ObjectInfo

STANDARD, INFREQUENT, COLD, ARCHIVE = StorageClass
RUNGS = (Rung(STANDARD, 0), Rung(INFREQUENT, 30 * DAY_MS), Rung(ARCHIVE, 365 * DAY_MS))
ON_S3, ON_GCS = Ladder(RUNGS, S3_CLASSES), Ladder(RUNGS, GCS_CLASSES)
NOW = 1_000 * DAY_MS


def aged(
    days: float, storage_class: StorageClass = STANDARD, class_days: float | None = None
) -> SegmentEntry:
    """A large segment of this age that has been in its class for so long (by default: always)."""
    at_ms = NOW - int(days * DAY_MS)
    since_ms = at_ms if class_days is None else NOW - int(class_days * DAY_MS)
    return entry(0, 10, size=1 << 20, timestamp=at_ms)._replace(
        created_ms=at_ms, storage_class=int(storage_class), class_since_ms=since_ms
    )


def told(found: SegmentEntry, ladder: Ladder = ON_S3) -> StorageClass | Why:
    answer = verdict(found, ladder, NOW)
    return answer.target if answer.why is None else answer.why


def test_age_says_where_a_segment_belongs() -> None:
    assert [told(aged(days)) for days in (0, 29.9, 30, 364, 365, 900)] == [
        Why.IN_PLACE,
        Why.IN_PLACE,
        INFREQUENT,
        INFREQUENT,
        ARCHIVE,
        ARCHIVE,
    ]


def test_segments_only_move_down() -> None:
    assert told(aged(5, ARCHIVE)) is Why.IN_PLACE
    assert told(aged(40, COLD)) is Why.IN_PLACE


def test_the_minimum_time_of_a_class_is_waited_for_unless_told() -> None:
    waiting = aged(366, INFREQUENT, class_days=12)
    answer = verdict(waiting, ON_S3, NOW)
    assert (answer.why, answer.due_ms) == (Why.MINIMUM, NOW + 18 * DAY_MS)
    assert told(waiting._replace(class_since_ms=NOW - 30 * DAY_MS)) == ARCHIVE
    assert told(waiting, Ladder(RUNGS, S3_CLASSES, is_early_allowed=True)) == ARCHIVE


def test_classes_that_a_provider_calls_the_same_are_the_same() -> None:
    in_cold = aged(400, COLD, class_days=200)
    assert told(in_cold, ON_S3) is Why.IN_PLACE
    assert told(in_cold, ON_GCS) == ARCHIVE


def test_what_stays_and_why() -> None:
    old = aged(400)
    assert told(old._replace(object_bytes=BILLED_BYTES_MIN - 1)) is Why.TOO_SMALL
    assert told(old._replace(origin=1)) is Why.FOREIGN
    assert told(old._replace(flags=STANDS_FOR_LOST_PAGE)) is Why.LOST


def test_a_timestamp_of_the_future_keeps_nothing_warm() -> None:
    assert told(aged(400)._replace(max_timestamp_ms=NOW + 10**12)) == ARCHIVE


def test_what_is_old_when_it_is_copied_goes_to_its_class_at_once() -> None:
    size = BILLED_BYTES_MIN
    assert class_at_copy(None, 0, size, NOW) == STANDARD
    assert class_at_copy(ON_S3, NOW - 400 * DAY_MS, size, NOW) == ARCHIVE
    assert class_at_copy(ON_S3, NOW - 400 * DAY_MS, size - 1, NOW) == STANDARD
    for unknown in (-1, NOW + 5):
        assert class_at_copy(ON_S3, unknown, size, NOW) == STANDARD


def test_a_move_that_was_made_and_not_committed_is_known_and_never_undone() -> None:
    moving = aged(400)._replace(version_hash=hash_of_version("v1"))
    size = moving.object_bytes

    def found(version: str, storage_class: StorageClass | None, size_bytes: int = size) -> Found:
        return found_as(moving, ObjectInfo("k", size_bytes, version, storage_class=storage_class), ON_S3)

    assert found("v1", STANDARD) is found("v1", None) is Found.AS_KNOWN
    # It was moved: under a new version or, where that is made of the bytes, under the old one; as far as it should, or not.
    for version in ("v1", "v2"):
        for made in (INFREQUENT, COLD, ARCHIVE):
            assert found(version, made) is Found.COLDER
    assert found("v2", STANDARD) is found("v2", None) is Found.ANOTHER
    assert found("v1", INFREQUENT, size + 1) is Found.ANOTHER
    in_cold = aged(400, COLD)._replace(version_hash=hash_of_version("v1"))
    same_name = ObjectInfo("k", in_cold.object_bytes, "v1", storage_class=ARCHIVE)
    assert found_as(in_cold, same_name, ON_S3) is Found.AS_KNOWN


def test_a_lost_page_is_never_within_a_run() -> None:
    entries = [aged(400)._replace(base_offset=10 * n, end_offset=10 * n + 10) for n in range(5)]
    entries[2] = entries[2]._replace(flags=STANDS_FOR_LOST_PAGE)
    catalog = Catalog(TierHead(0, 50, tuple(entries)))
    first = look(catalog, ON_S3, NOW, 0)
    assert ([m.entry.base_offset for m in first.moves], first.next_offset) == ([0, 10], 20)
    second = look(catalog, ON_S3, NOW, 20)
    assert ([m.entry.base_offset for m in second.moves], second.next_offset) == ([30, 40], 50)


@given(st.sampled_from([0, 4, 12]), st.integers(1, 30), st.integers(0, 400))
def test_a_pass_finds_each_due_segment_once(paged: int, tail: int, start: int) -> None:
    """Small entries are due here, since their size does not count: all are old, and all move or none."""
    head, pages = tier_of(paged, tail)
    big = Catalog(head.with_start(min(start, head.end), 1), pages.columns)
    ladder = Ladder((Rung(INFREQUENT, 0),), S3_CLASSES, is_early_allowed=True)
    found: list[int] = []
    at, looks = 0, 0
    while at < big.end:
        answer = look(big, ladder, NOW, at)
        assert answer.next_offset > at or big.is_empty
        in_pages = {m.entry.base_offset < 10 * paged for m in answer.moves}
        assert len(in_pages) <= 1 and len(answer.moves) <= MOVES_PER_LOOK
        found += [m.entry.base_offset for m in answer.moves]
        at, looks = answer.next_offset, looks + 1
    assert found == []  # too small, every one of them
    assert looks <= 2 + len(big) // ENTRIES_PER_LOOK


def test_moves_of_pages_and_tail_are_apart_and_their_run_is_whole() -> None:
    head, pages = tier_of(8, 5)
    columns = pages.columns
    wide = {name: columns.column(name)[:] for name in SegmentEntry._fields if name != "uuid"}
    for at in range(len(columns)):
        wide["object_bytes"][at] = 1 << 20
    columns = type(columns)(wide, columns.uuids)
    tail = tuple(e._replace(object_bytes=1 << 20 if e.base_offset != 90 else 5) for e in head.tail)
    catalog = Catalog(TierHead(0, head.end, tail, head.page_index), columns)
    ladder = Ladder((Rung(INFREQUENT, 0),), S3_CLASSES)
    first = look(catalog, ladder, NOW, 0)
    assert [m.entry.base_offset for m in first.moves] == list(range(0, 80, 10))
    assert first.next_offset == 80
    second = look(catalog, ladder, NOW, 80)
    assert [m.entry.base_offset for m in second.moves] == [80, 100, 110, 120]
    moved = [m.entry._replace(storage_class=1) for m in second.moves]
    run = with_moves(catalog, moved)
    assert [(e.base_offset, e.storage_class) for e in run] == [(80, 1), (90, 0), (100, 1), (110, 1), (120, 1)]
    assert look(catalog, ladder, NOW, catalog.end).next_offset == catalog.end
