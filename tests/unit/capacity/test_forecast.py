"""The forecast on a hundred seeded curves, and its parts one by one."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence
from itertools import count, pairwise
from statistics import fmean
from typing import NamedTuple

import pytest

from tests.e2e.tiered import figure
from tests.unit.capacity.curves import HISTORY_DAYS, KINDS, Curve, curve
from tiering.capacity.forecast import (
    DAY_HOURS,
    HOUR_MS,
    Growth,
    band,
    days_until,
    paths,
    slope_of,
    take_apart,
)

AHEAD_DAYS = 30
FULL_DAYS = 60
FIRST_SEEDS = (1000, 2000)
"""Each begins a hundred curves. The forecast's constants were chosen on the seeds from 0 on."""
WITHIN = 0.10
MORE_SEEDS, MORE_CURVES = 100_000, int(os.environ.get("TIERLOG_FORECAST_CURVES", "0"))


@pytest.mark.parametrize("first_seed", FIRST_SEEDS)
def test_the_band_holds_the_truth_of_a_hundred_curves(first_seed: int) -> None:
    held: Counter[str] = Counter()
    for kind in KINDS:
        for seed in range(first_seed, first_seed + 25):
            made = curve(kind, seed, AHEAD_DAYS)
            ahead = band(paths(take_apart(made.past), AHEAD_DAYS, random.Random(1)))[-1]
            held[kind] += ahead.p10 <= made.future[-1][1] <= ahead.p90
    figure(f"p10–p90 holds the truth {AHEAD_DAYS} days ahead: {held.total()} of 100 ({dict(held)})")
    # A band that holds everything tells nothing.
    assert 85 <= held.total() <= 97


class Off(NamedTuple):
    """Days to full of a seasonal curve, as a share: as they are told, by the means of the weekdays that were seen, and by
    the growth that the curve was made with."""

    told: float
    by_means: float
    by_itself: float


def days_off(seed: int) -> Off:
    made = curve("week", seed, FULL_DAYS + 1)
    limit = made.future[FULL_DAYS * DAY_HOURS][1]
    growth = take_apart(made.past)
    ahead = band(paths(growth, 2 * FULL_DAYS, random.Random(1)))
    told = days_until(growth, ahead, limit, pessimist=False)
    soonest = days_until(growth, ahead, limit, pessimist=True)
    assert told is not None
    assert soonest is not None
    assert soonest < told
    ends = [made.past[number][1] for number in range(DAY_HOURS - 1, len(made.past), DAY_HOURS)]
    days = [after - before for before, after in pairwise(ends)]
    # The day after the last one is of the weekday of seven days before.
    means = [fmean(days[number % 7 - 7 :: -7]) for number in range(7)]
    itself = [made.per_day[(HISTORY_DAYS + number) % 7] for number in range(7)]
    missing = limit - ends[-1]
    found = told, until(means, missing), until(itself, missing)
    return Off(*(abs(each - FULL_DAYS) / FULL_DAYS for each in found))


def until(week: Sequence[float], missing: float) -> float:
    """Days, of which each adds what its weekday does."""
    for number in count():
        added = week[number % 7]
        if added >= missing:
            return number + missing / added
        missing -= added
    raise AssertionError


def test_days_to_full_of_seasonal_curves() -> None:
    """All within 10 %, but those whose own past tells no better: no estimate does without knowing the curve."""
    found = [days_off(seed) for at in FIRST_SEEDS for seed in range(at, at + 25)]
    figure(f"days to full, 50 seasonal curves: {told_of(found)}")
    beyond = [off for off in found if off.told > WITHIN]
    assert len(beyond) <= 1
    assert all(off.by_means > WITHIN for off in beyond)
    if MORE_CURVES:
        more = [days_off(MORE_SEEDS + number) for number in range(MORE_CURVES)]
        figure(f"days to full, {MORE_CURVES:,} more: {told_of(more)}")


def told_of(found: Sequence[Off]) -> str:
    beyond = Off(*(sum(each > WITHIN for each in column) for column in zip(*found, strict=True)))
    most = Off(*map(max, zip(*found, strict=True)))
    return (
        f"{beyond.told} more than {WITHIN:.0%} off, {most.told:.1%} at most; by the means of their weekdays "
        f"{beyond.by_means}, {most.by_means:.1%}; by their growth without noise {beyond.by_itself}, {most.by_itself:.1%}"
    )


def line(days: int, per_day: float, level: float = 0.0) -> list[tuple[int, float]]:
    return [(hour * HOUR_MS, level + per_day * hour / DAY_HOURS) for hour in range(days * DAY_HOURS + 1)]


def test_a_line_goes_on_as_a_line() -> None:
    growth = take_apart(line(40, 10.0, 100.0))
    ahead = band(paths(growth, 20, random.Random(1)))
    assert [(each.p10, each.p50, each.p90) for each in ahead] == [
        pytest.approx((500 + 10 * day,) * 3) for day in range(1, 21)
    ]
    assert days_until(growth, ahead, 555.0, pessimist=False) == pytest.approx(5.5)
    assert days_until(growth, ahead, 500.0, pessimist=False) == 0.0
    assert days_until(growth, ahead, 10_000.0, pessimist=True) is None


def test_weekdays_are_found() -> None:
    made = curve("week", 3, 0)
    growth = take_apart(made.past)
    assert growth.is_factor
    assert fmean(growth.weekday) == pytest.approx(1.0)
    days = [after[1] - before[1] for before, after in zip(made.past[23::24], made.past[47::24], strict=False)]
    # The day after the last hour is of the weekday of seven days before.
    shares = [fmean(days[number::7]) for number in range(len(days) % 7, len(days) % 7 + 7)]
    assert [part * fmean(shares) for part in growth.weekday] == pytest.approx(shares, rel=0.25)


def test_what_shrinks_and_grows_has_addends() -> None:
    saw = [(hour * HOUR_MS, 1000.0 + 50 * ((hour // DAY_HOURS) % 7)) for hour in range(60 * DAY_HOURS)]
    growth = take_apart(saw)
    assert not growth.is_factor
    ahead = band(paths(growth, 14, random.Random(1)))
    assert {round(each.p50) for each in ahead} == set(range(1000, 1301, 50))


def test_a_change_for_good_is_seen_and_a_burst_is_not_one() -> None:
    slow, fast = line(40, 10.0), line(30, 30.0, 400.0)
    last_ms = slow[-1][0]
    growth = take_apart([*slow, *((last_ms + time_ms, level) for time_ms, level in fast[1:])])
    assert set(map(round, growth.rests)) == {30}
    assert len(growth.all_rests) == 70
    burst = [(time_ms, level + 500.0 * (time_ms > 20 * 24 * HOUR_MS)) for time_ms, level in line(40, 10.0)]
    assert take_apart(burst).slope == pytest.approx(10.0)


def test_a_holiday_counts_for_nothing() -> None:
    level, series = 0.0, []
    for hour in range(60 * DAY_HOURS + 1):
        series.append((hour * HOUR_MS, level))
        level += (2.0 if 30 <= hour / DAY_HOURS < 36 else 10.0 + (hour // 24 % 3)) / DAY_HOURS
    growth = take_apart(series)
    assert len(growth.rests) == 54
    assert min(growth.rests) > 5


def test_slopes_need_half_of_their_days() -> None:
    growth = take_apart(line(20, 10.0))
    rng = random.Random(1)
    told = [slope_of(growth, days, rng) for days in (7, 30, 90)]
    assert [
        slope and (slope.days, round(slope.per_day), round(slope.low), round(slope.high)) for slope in told
    ] == [
        (7, 10, 10, 10),
        (30, 10, 10, 10),
        None,
    ]


def test_missing_hours_are_a_line() -> None:
    whole = line(30, 24.0)
    holes = [point for number, point in enumerate(whole) if number % 7 != 3]
    assert take_apart(holes).all_rests == pytest.approx(take_apart(whole).all_rests)


def test_short_series_stay_where_they_are() -> None:
    for series in ([(0, 5.0)], line(0, 1.0, 5.0), [(0, 5.0), (HOUR_MS, 5.0)]):
        growth = take_apart(series)
        assert {each.p90 for each in band(paths(growth, 3, random.Random(1)))} == {5.0}
    assert isinstance(take_apart([(0, 5.0)]), Growth)


def test_the_same_seed_tells_the_same() -> None:
    made: Curve = curve("burst", 1, 0)
    first, again = (paths(take_apart(made.past), 10, random.Random(7)) for _ in range(2))
    assert first == again
