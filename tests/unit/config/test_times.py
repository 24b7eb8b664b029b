"""Durations and times as people write them, for every option that takes one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlog.errors import UserError
from tierlog.times import DURATION_MS_MAX, FOREVER_MS, UNITS_MS, duration_ms, duration_of, time_ms

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


@given(st.integers(0, 10**12 - 1), st.sampled_from(sorted(UNITS_MS)))
def test_whole_durations_are_exact(number: int, unit: str) -> None:
    assert duration_of(f"{number}{unit}") == min(number * UNITS_MS[unit], DURATION_MS_MAX)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("1.5h", 5_400_000), ("0.1d", 8_640_000), ("12 h", 12 * HOUR_MS), (" 1w ", 168 * HOUR_MS), ("0s", 0)],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert duration_of(text) == milliseconds


@pytest.mark.parametrize(
    "text", ["", "7", "-7d", "7 days", "1.d", "1e3s", "٧d", "7d ago", "9" * 13 + "s", "forever"]
)
def test_what_is_no_duration_gets_one_line(text: str) -> None:
    with pytest.raises(UserError) as told:
        duration_ms(text, "--keep")
    assert str(told.value) == f"--keep {text}: expected a duration, as 30s, 6h or 90d"


def test_a_word_for_no_end_and_the_least() -> None:
    assert duration_ms("never", "--every", endless="never") == FOREVER_MS
    with pytest.raises(
        UserError, match=r"--every forever: expected a duration, as 30s, 6h or 90d, or never$"
    ):
        duration_ms("forever", "--every", endless="never")
    assert duration_ms("0s", "--disorder", least_ms=0) == 0
    for text in ("0s", "0.1ms"):
        with pytest.raises(UserError, match="expected a duration"):
            duration_ms(text, "--every")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW_MS),
        ("24h", NOW_MS - 24 * HOUR_MS),
        ("24h ago", NOW_MS - 24 * HOUR_MS),
        ("1.5h", NOW_MS - 5_400_000),
        ("999999999999y", 0),
        ("2027-01-15T08:00:00Z", NOW_MS),
        ("2027-01-15T09:00:00+01:00", NOW_MS),
        ("2027-01-15 08:00", NOW_MS),
        ("2027-01-15T08:00:00.0014", NOW_MS + 1),
        ("2027-01-15", NOW_MS - 8 * HOUR_MS),
        ("1969-12-31", 0),
        ("9999-12-31T23:59:59-12:00", 253_402_300_799_999),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert time_ms(text, "--since", NOW_MS) == expected


@given(st.integers(0, 10_000 * 366 * 24 * HOUR_MS // 2))
def test_a_time_is_read_as_it_is_written(at_ms: int) -> None:
    written = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    assert time_ms(written.isoformat(), "--since", NOW_MS) == at_ms


@pytest.mark.parametrize("text", ["", "soon", "yesterday", "17", "-5d", "2027-13-01", "ago", "Now"])
def test_what_is_no_time_gets_one_line(text: str) -> None:
    with pytest.raises(UserError) as told:
        time_ms(text, "--since", NOW_MS)
    assert str(told.value) == (
        f"--since {text}: expected a time, as 2026-11-01 or 2026-11-01T06:00, or a duration ago, as 7d or 12h, or now"
    )
