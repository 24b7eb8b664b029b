"""A forecast says what the ladder then does: the same moves, when it said, each counted once."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tiering.heads import entry
from tests.unit.tiering.test_ladder import NOW, RUNGS, aged
from tiering.ladder import DAY_MS, Ladder, Rung, Why, verdict
from tiering.model import SegmentEntry
from tiering.objects.classes import GCS_CLASSES, S3_CLASSES, StorageClass
from tiering.outlook.forecast import MONTH_MS, MONTHS, Amount, Forecast

STANDARD, INFREQUENT, COLD, ARCHIVE = StorageClass


def forecast(entries: list[SegmentEntry], ladder: Ladder | None, retention_ms: int = -1) -> Forecast:
    made = Forecast(ladder, retention_ms, NOW)
    for each in entries:
        made.add(each)
    return made


def test_what_is_due_what_waits_and_what_comes() -> None:
    ladder = Ladder(RUNGS, S3_CLASSES)
    old, young, waiting = aged(400), aged(1), aged(370, INFREQUENT, class_days=12)
    small = aged(400)._replace(object_bytes=10)
    made = forecast([old, young, waiting, small], ladder)
    size = old.object_bytes
    assert made.held == {STANDARD: Amount(3, 2 * size + 10), INFREQUENT: Amount(1, size)}
    assert made.due == {(STANDARD, ARCHIVE): Amount(1, size)}
    assert made.waiting == {
        (INFREQUENT, ARCHIVE, Why.MINIMUM): Amount(1, size, NOW + 18 * DAY_MS),
        (STANDARD, ARCHIVE, Why.TOO_SMALL): Amount(1, 10),
    }
    assert made.later == {
        (0, STANDARD, INFREQUENT): Amount(1, size, NOW + 29 * DAY_MS),
        (0, INFREQUENT, ARCHIVE): Amount(1, size, NOW + 18 * DAY_MS),
    }
    assert forecast([old], None).due == {}


def test_what_retention_deletes_before_its_minimum_is_billed_is_said() -> None:
    ladder = Ladder((Rung(STANDARD, 0), Rung(COLD, 30 * DAY_MS)), S3_CLASSES)
    made = forecast([aged(10)], ladder, retention_ms=60 * DAY_MS)
    assert made.early == {COLD: Amount(1, aged(10).object_bytes, NOW + 50 * DAY_MS)}
    assert forecast([aged(10)], ladder, retention_ms=200 * DAY_MS).early == {}
    assert forecast([aged(10)], ladder).early == {}
    # What is deleted before it moves is never in the colder class.
    assert forecast([aged(10)], ladder, retention_ms=20 * DAY_MS).later == {}


@given(
    st.lists(
        st.tuples(st.integers(0, 800), st.sampled_from(StorageClass), st.integers(0, 200), st.booleans()),
        max_size=12,
    ),
    st.sampled_from([S3_CLASSES, GCS_CLASSES]),
    st.booleans(),
    st.lists(st.integers(1, 700), min_size=3, max_size=3, unique=True),
)
def test_day_by_day_the_ladder_does_what_was_said(
    kinds: list[tuple[int, StorageClass, int, bool]],
    names: dict,
    is_early: bool,
    ages: list[int],  # type: ignore[type-arg]
) -> None:
    classes = (STANDARD, INFREQUENT, COLD, ARCHIVE)
    starts = (0, *(days * DAY_MS for days in sorted(ages)))
    ladder = Ladder(tuple(map(Rung, classes, starts)), names, is_early)
    entries = [
        aged(days, storage_class, min(class_days, days))._replace(object_bytes=10 if is_small else 1 << 20)
        for days, storage_class, class_days, is_small in kinds
    ]
    made = forecast(entries, ladder)
    said = Counter({(a, b): amount.segments for (a, b), amount in made.due.items()})
    for (_, a, b), amount in made.later.items():
        said[a, b] += amount.segments
    done: Counter[tuple[StorageClass, StorageClass]] = Counter()
    for day in range(MONTHS * MONTH_MS // DAY_MS):
        for at, each in enumerate(entries):
            now_ms = NOW + day * DAY_MS
            told = verdict(each, ladder, now_ms)
            if told.why is None:
                done[StorageClass(each.storage_class), told.target] += 1
                entries[at] = each._replace(storage_class=int(told.target), class_since_ms=now_ms)
    assert said == done


def test_entries_of_the_future_are_followed_too() -> None:
    ahead = entry(0, 10, size=1 << 20, timestamp=NOW + 10 * DAY_MS)._replace(created_ms=NOW)
    made = forecast([ahead], Ladder(RUNGS, S3_CLASSES))
    assert list(made.later) == [(1, STANDARD, INFREQUENT)]
