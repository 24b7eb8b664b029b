"""Since when records are not in the bucket, and when the active segment is sealed for it."""

from __future__ import annotations

from tiering.copying.exposure import MARKS_MAX, Exposure


def test_an_empty_log_and_one_that_is_copied_are_not_exposed() -> None:
    exposure = Exposure()
    exposure.see(0, 0, 0, 5)
    assert exposure.since_ms is None
    exposure.see(10, 10, 10, 6)
    assert exposure.since_ms is None
    assert not exposure.is_seal_due(10, 10, 0, 10**9)


def test_it_counts_from_the_first_record_of_what_is_not_copied() -> None:
    exposure = Exposure()
    exposure.see(0, 3, 0, 100)
    exposure.see(0, 9, 0, 200)
    assert exposure.since_ms == 100
    exposure.see(10, 10, 0, 300)  # sealed, and nothing behind it
    exposure.see(10, 12, 0, 400)
    assert exposure.since_ms == 100
    exposure.see(10, 12, 10, 500)  # copied
    assert exposure.since_ms == 400
    exposure.see(12, 12, 12, 600)
    assert exposure.since_ms is None
    exposure.see(12, 13, 12, 700)
    assert exposure.since_ms == 700


def test_the_active_segment_is_sealed_when_its_first_record_has_waited_long_enough() -> None:
    exposure = Exposure()
    exposure.see(0, 3, 0, 100)
    assert not exposure.is_seal_due(0, 0, 1_000, 1_099)
    assert exposure.is_seal_due(0, 0, 1_000, 1_100)
    assert not exposure.is_seal_due(0, 0, -1, 10**9)  # off


def test_nothing_more_is_sealed_while_sealed_segments_wait() -> None:
    exposure = Exposure()
    exposure.see(0, 10, 0, 100)
    exposure.see(10, 12, 0, 200)
    assert not exposure.is_seal_due(0, 10, 1_000, 10**9)
    exposure.see(10, 12, 10, 300)
    assert not exposure.is_seal_due(10, 10, 1_000, 1_199)
    assert exposure.is_seal_due(10, 10, 1_000, 1_200)


def test_a_long_backlog_is_remembered_in_part_and_never_as_too_young() -> None:
    exposure = Exposure()
    for n in range(3 * MARKS_MAX):
        exposure.see(10 * n, 10 * n + 1, 0, n)
    assert exposure.since_ms == 0
    end = 20 * MARKS_MAX
    exposure.see(30 * MARKS_MAX, 30 * MARKS_MAX + 1, end, 10**6)
    assert exposure.since_ms is not None
    assert exposure.since_ms <= 2 * MARKS_MAX
