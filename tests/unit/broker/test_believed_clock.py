"""A clock that jumps: what removes data by its age does not follow it ahead at once, and it follows it back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tierlog.broker.clock import HOLD_MS, JUMP_MS, BelievedClock

YEAR_MS = 365 * 86_400_000
START_MS = 1_700_000_000_000


class Time:
    """Time that passes, and a wall clock that is set."""

    def __init__(self) -> None:
        self.passed_ms, self.ahead_ms = 0, 0
        self.clock = BelievedClock(lambda: START_MS + self.passed_ms + self.ahead_ms, lambda: self.passed_ms)

    def after(self, passed_ms: int) -> int:
        """What the clock says then, beyond the true time."""
        self.passed_ms += passed_ms
        return self.clock.now_ms() - START_MS - self.passed_ms


def test_it_follows_a_clock_that_is_well() -> None:
    time = Time()
    assert time.after(YEAR_MS) == 0
    for step in range(1, 5):
        time.ahead_ms = step * JUMP_MS
        assert time.after(1) == step * JUMP_MS, "NTP steps, summer time"


def test_years_ahead_and_back() -> None:
    time = Time()
    time.ahead_ms = 5 * YEAR_MS
    assert [time.after(HOLD_MS // 3) for _ in range(3)] == [0, 0, 0]
    time.ahead_ms = 0
    assert time.after(1) == 0
    time.ahead_ms = YEAR_MS
    assert time.after(HOLD_MS - 1) == 0, "a new jump is held anew"
    time.ahead_ms = -YEAR_MS
    assert time.after(1) == -YEAR_MS, "back is believed at once"


def test_what_stays_ahead_is_right() -> None:
    time = Time()
    time.ahead_ms = YEAR_MS
    assert [time.after(1), time.after(HOLD_MS - 1), time.after(1)] == [0, 0, YEAR_MS]
    assert time.after(HOLD_MS) == YEAR_MS


@given(st.lists(st.tuples(st.integers(0, HOLD_MS // 8), st.integers(-YEAR_MS, 9 * YEAR_MS)), max_size=8))
def test_it_is_never_far_ahead_of_what_was_believed_before_a_hold_is_over(
    steps: list[tuple[int, int]],
) -> None:
    time = Time()
    before_ms = time.clock.now_ms()
    for passed_ms, ahead_ms in steps:
        time.passed_ms += passed_ms
        time.ahead_ms = ahead_ms
        now_ms = time.clock.now_ms()
        assert now_ms <= before_ms + passed_ms + JUMP_MS
        before_ms = now_ms
