"""Throttles of replication: the rate holds in the long run, a second's worth goes at once, lists name replicas."""

from __future__ import annotations

import pytest

from tierlog.broker.replicas.replication_quotas import is_listed
from tierlog.broker.work.byte_rate import ByteRate

RATE = 1000


def test_the_rate_holds_in_the_long_run() -> None:
    quota, now_s, sent = ByteRate(RATE), 50.0, 0
    while now_s < 60.0:
        if quota.pause_s(now_s) == 0:
            quota.count(300, now_s)
            sent += 300
        now_s += 0.01
    assert RATE * 10 <= sent <= RATE * 11 + 300


def test_a_pause_saves_up_no_more_than_a_second() -> None:
    quota = ByteRate(RATE)
    quota.count(1, 10.0)
    quota.count(1000, 100.0)
    assert quota.pause_s(100.0) == 0
    quota.count(1000, 100.0)
    assert quota.pause_s(100.0) == pytest.approx(1.0)
    assert quota.pause_s(101.0) == 0


def test_another_rate_forgets_the_debt() -> None:
    quota = ByteRate(1)
    quota.count(10_000, 0.0)
    assert quota.pause_s(0.0) > 1000
    quota.set_rate(1)
    assert quota.pause_s(0.0) > 1000
    quota.set_rate(RATE)
    assert quota.pause_s(0.0) == 0


def test_without_a_rate_nothing_waits() -> None:
    quota = ByteRate()
    quota.count(2**40, 0.0)
    assert quota.pause_s(0.0) == 0


@pytest.mark.parametrize(
    ("listed", "found"), [((), False), (("*",), True), (("3:1", "4:2"), True), (("3:2", "4:1"), False)]
)
def test_lists(listed: tuple[str, ...], found: bool) -> None:
    assert is_listed(frozenset(listed), 3, 1) is found
