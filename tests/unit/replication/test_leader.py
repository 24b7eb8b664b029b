"""The leader: high watermark over the maximal ISR, fencing, divergence, ISR changes and their outcomes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.replication.logs import ListLog
from tierlog.errors import ErrorCode
from tierlog.replication.fetches import FollowerFetch
from tierlog.replication.isr_changes import IsrChange
from tierlog.replication.leader import FetchVerdict, Leader
from tierlog.replication.progress import Presence
from tierlog.replication.waiters import OffsetWaiters

LAG_MS = 30_000
AVAILABLE = {2: 20, 3: 30, 4: 40}


def leader(isr: set[int], min_isr: int = 1, end: int = 0, start: int | None = None) -> Leader:
    return Leader(
        broker_id=1,
        leader_epoch=3,
        epoch_start_offset=end if start is None else start,
        isr=frozenset(isr),
        min_isr=min_isr,
        partition_epoch=10,
        durable_end_offset=end,
        high_watermark=0,
        replicas=frozenset({1, 2, 3, 4}),
        broker_epoch=11,
    )


def fetch(
    led: Leader, broker_id: int, offset: int, log: ListLog | None = None, *, now_ms: int = 0, epoch: int = 3
) -> FetchVerdict:
    log = log or ListLog([3] * max(offset, led.durable_end_offset))
    last = -1 if offset == 0 else 3
    return led.on_follower_fetch(
        FollowerFetch(broker_id, broker_id * 10, epoch, offset, last, 0), log, now_ms
    )


def change_of(led: Leader, now_ms: int = 0, end: int | None = None) -> IsrChange:
    change = led.propose_isr_change(now_ms, LAG_MS, led.durable_end_offset if end is None else end, AVAILABLE)
    assert change is not None
    return change


# -- high watermark


def test_alone_it_follows_the_durable_end() -> None:
    alone = leader({1})
    assert alone.on_durable(5)
    assert alone.high_watermark == 5
    assert not alone.on_durable(4)
    assert alone.high_watermark == 5


def test_it_waits_for_every_in_sync_follower() -> None:
    led = leader({1, 2, 3})
    assert not led.on_durable(10)
    assert not fetch(led, 2, 8).watermark_moved
    assert fetch(led, 3, 6).watermark_moved
    assert led.high_watermark == 6
    assert fetch(led, 3, 9).watermark_moved
    assert led.high_watermark == 8


def test_below_min_isr_it_stands_still() -> None:
    led = leader({1}, min_isr=2)
    assert not led.accepts_all_acks
    assert not led.on_durable(10)
    assert led.high_watermark == 0
    assert not led.on_partition_record(frozenset({1, 2}), 2, 9), "an older record is ignored"
    led.on_partition_record(frozenset({1, 2}), 2, 11)
    assert led.accepts_all_acks
    assert led.high_watermark < 10
    assert fetch(led, 2, 10).watermark_moved
    assert led.high_watermark == 10


def test_min_isr_is_the_records() -> None:
    led = leader({1}, min_isr=2)
    led.on_durable(10)
    assert led.on_partition_record(frozenset({1}), 1, 11)
    assert led.high_watermark == 10


def test_a_shrunk_isr_releases_the_rest() -> None:
    led = leader({1, 2})
    led.on_durable(10)
    fetch(led, 2, 3)
    assert led.on_partition_record(frozenset({1}), 1, 11)
    assert led.high_watermark == 10


def test_its_end_is_told_once_the_watermark_has_reached_the_epochs_start() -> None:
    led = leader({1, 2}, end=5)
    assert not led.is_watermark_settled
    fetch(led, 2, 4)
    assert not led.is_watermark_settled
    fetch(led, 2, 5)
    assert led.is_watermark_settled


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.integers(0, 100)), max_size=60))
def test_it_never_goes_back_and_never_passes_a_member(steps: list[tuple[int, int]]) -> None:
    led = leader({1, 2, 3}, min_isr=2)
    log = ListLog([3] * 100)
    ends = {1: 0, 2: -1, 3: -1}
    before = 0
    for broker, offset in steps:
        if broker == 1:
            ends[1] = max(ends[1], offset)
            led.on_durable(offset)
        else:
            ends[broker] = offset
            fetch(led, broker, offset, log)
        assert led.high_watermark >= before
        if led.high_watermark > before:
            assert led.high_watermark <= min(ends.values())
        before = led.high_watermark
        led.check()


# -- fetches


def test_epochs_fence() -> None:
    led = leader({1, 2}, end=5)
    assert fetch(led, 2, 5, epoch=2).error is ErrorCode.FENCED_LEADER_EPOCH
    assert fetch(led, 2, 5, epoch=4).error is ErrorCode.UNKNOWN_LEADER_EPOCH
    assert fetch(led, 9, 5).error is ErrorCode.UNKNOWN_LEADER_EPOCH, "not assigned, as far as we know"
    assert led.high_watermark == 0
    assert fetch(led, 2, 5).error is ErrorCode.NONE
    stale = FollowerFetch(2, 19, 3, 5, 3, 0)
    log = ListLog([3] * 5)
    assert led.on_follower_fetch(stale, log, 0).error is ErrorCode.STALE_BROKER_EPOCH
    assert led.followers[2].broker_epoch == 20


def test_a_diverging_fetch_proves_nothing() -> None:
    led = leader({1, 2}, end=6)
    log = ListLog([1, 1, 1, 3, 3, 3])
    verdict = led.on_follower_fetch(FollowerFetch(2, 20, 3, 5, 2, 0), log, 0)
    assert verdict.diverging == (1, 3)
    assert led.followers[2].log_end_offset == -1
    assert led.on_follower_fetch(FollowerFetch(2, 20, 3, 5, 1, 0), log, 0).diverging == (1, 3)
    assert led.on_follower_fetch(FollowerFetch(2, 20, 3, 3, 1, 0), log, 0) == FetchVerdict(
        watermark_moved=True
    )
    assert led.high_watermark == 3


def test_offsets_out_of_range_and_in_the_tier() -> None:
    led = leader({1, 2}, end=10)
    log = ListLog([3] * 8, start=2, local_start=6)
    ask = [
        led.on_follower_fetch(FollowerFetch(2, 20, 3, o, -1, 0), log, 0).error for o in (1, 2, 5, 6, 10, 11)
    ]
    out, tiered = ErrorCode.OFFSET_OUT_OF_RANGE, ErrorCode.OFFSET_MOVED_TO_TIERED_STORAGE
    assert ask == [out, tiered, tiered, ErrorCode.NONE, ErrorCode.NONE, out]


def test_a_tail_of_a_forgotten_epoch_below_the_log_start_is_dropped() -> None:
    """The lineage cannot tell whether such a tail is of this history: epoch 0 may have ended anywhere below 5."""
    led = leader({1}, end=7)
    log = ListLog([3, 3], start=5)

    def answer(offset: int, last_epoch: int, start: int) -> FetchVerdict:
        return led.on_follower_fetch(FollowerFetch(2, 20, 3, offset, last_epoch, start), log, 0)

    out = FetchVerdict(ErrorCode.OFFSET_OUT_OF_RANGE)
    assert answer(6, 0, 0).diverging == (0, 5)
    assert answer(5, 0, 0) == answer(5, 2, 4) == out
    assert 2 not in led.followers, "nothing is proved"
    assert answer(5, 0, 5).error is ErrorCode.NONE, "nothing of it is left"
    assert answer(5, -1, 0).error is ErrorCode.NONE, "it says nothing of its epochs"
    assert answer(5, 3, 0).error is ErrorCode.NONE, "the epoch in force at the log start"


def test_a_follower_is_told_of_a_watermark_once() -> None:
    led = leader({1, 2}, end=5)
    fetch(led, 2, 5)
    assert led.awaits_high_watermark(2)
    led.on_fetch_answered(2)
    assert not led.awaits_high_watermark(2)
    led.on_durable(6)
    fetch(led, 2, 6)
    assert led.awaits_high_watermark(2)


def test_the_low_watermark_is_the_smallest_log_start_of_the_living() -> None:
    led = leader({1, 2, 3}, end=9)
    log = ListLog([3] * 9)
    assert led.low_watermark(5, {1}) == 5
    assert led.low_watermark(5, {1, 2}) == -1
    led.on_follower_fetch(FollowerFetch(2, 20, 3, 9, 3, 4), log, 0)
    led.on_follower_fetch(FollowerFetch(3, 30, 3, 9, 3, 7), log, 0)
    assert led.low_watermark(5, {1, 2, 3}) == 4
    assert led.low_watermark(5, {1, 3}) == 5


# -- ISR


def test_a_lagging_follower_leaves_and_one_with_everything_stays() -> None:
    led = leader({1, 2, 3}, end=5)
    fetch(led, 2, 5, now_ms=1)
    fetch(led, 3, 4, now_ms=1)
    assert led.propose_isr_change(LAG_MS, LAG_MS, 5, AVAILABLE) is None
    change = change_of(led, LAG_MS + 1)
    assert (change.isr, change.partition_epoch, change.broker_epoch) == ({1, 2}, 10, 11)
    assert led.high_watermark == 4, "the one who leaves still counts"
    assert led.on_isr_change_applied(change, 12)
    assert (led.isr, led.partition_epoch, led.high_watermark) == ({1, 2}, 12, 5)


def test_under_steady_load_it_counts_when_it_has_what_was_there_at_its_last_fetch() -> None:
    led = leader({1, 2}, end=5)
    for round_ in range(1, 5):
        log = ListLog([3] * 5 * round_)
        fetch(led, 2, 5 * (round_ - 1), log, now_ms=20_000 * round_)
    assert led.followers[2].last_caught_up_ms == 60_000
    assert led.propose_isr_change(90_000, LAG_MS, 20, AVAILABLE) is None
    assert change_of(led, 90_001, end=20).isr == {1}


def quiet(led: Leader, end: int) -> Presence:
    fetch(led, 2, end, now_ms=0)
    presence = Presence(broker_epoch=20)
    assert led.on_quiet(2, presence, end)
    return presence


def test_who_is_passed_over_counts_through_its_session() -> None:
    led = leader({1, 2}, end=5)
    presence = quiet(led, 5)
    presence.seen_ms = 600_000  # the last fetch before the append
    led.on_durable(6)
    assert led.propose_isr_change(600_000 + LAG_MS, LAG_MS, 6, AVAILABLE) is None
    assert change_of(led, 600_001 + LAG_MS, end=6).isr == {1}


def test_a_fetch_that_is_served_ends_the_passing_over() -> None:
    led = leader({1, 2}, end=5)
    presence = quiet(led, 5)
    presence.seen_ms = 600_000
    fetch(led, 2, 5, ListLog([3] * 6), now_ms=600_500)  # an append came before it
    presence.seen_ms = 2_000_000  # its session goes on, and says nothing of this partition
    assert led.followers[2].caught_up_ms == 600_000
    assert change_of(led, 600_001 + LAG_MS, end=6).isr == {1}


def test_a_stall_does_not_end_it_either() -> None:
    led = leader({1, 2}, end=5)
    quiet(led, 5).seen_ms = 600_000
    led.on_stall(50_000)
    assert led.propose_isr_change(650_000 + LAG_MS, LAG_MS, 6, AVAILABLE) is None


def test_who_may_not_be_passed_over() -> None:
    led = leader({1, 2}, end=5)
    assert not led.on_quiet(3, Presence(broker_epoch=30), 5), "it never fetched"
    fetch(led, 2, 4)
    assert not led.on_quiet(2, Presence(broker_epoch=20), 5), "it is behind"
    fetch(led, 2, 5)
    assert not led.on_quiet(2, Presence(broker_epoch=19), 5), "it has another registration"
    assert fetch(led, 3, 5).may_join
    assert not led.on_quiet(3, Presence(broker_epoch=30), 5), "it waits to be let in"


def test_a_stall_is_nobodys_fault() -> None:
    led = leader({1, 2}, end=5)
    led.on_stall(50_000)
    assert led.propose_isr_change(60_000, LAG_MS, 5, AVAILABLE) is None


@pytest.mark.parametrize(("offset", "joins"), [(5, False), (7, False), (8, True)])
def test_who_joins_has_everything_up_to_the_epochs_start(offset: int, joins: bool) -> None:
    led = leader({1, 2}, end=8)
    fetch(led, 2, 6)
    assert fetch(led, 3, offset).may_join is joins
    assert (led.propose_isr_change(0, LAG_MS, 8, AVAILABLE) is not None) is joins


def test_who_joins_is_available_under_the_epoch_of_its_fetch() -> None:
    led = leader({1}, end=8)
    fetch(led, 2, 8)
    assert led.propose_isr_change(0, LAG_MS, 8, {}) is None
    assert led.propose_isr_change(0, LAG_MS, 8, {2: 21}) is None
    change = change_of(led)
    assert (change.isr, dict(change.joining)) == ({1, 2}, {2: 20})
    assert isinstance(change.isr, frozenset)


def test_a_pending_expansion_counts_already_and_is_the_only_one() -> None:
    led = leader({1, 2}, end=4)
    fetch(led, 3, 4)
    change = change_of(led)
    assert led.maximal_isr == {1, 2, 3}
    fetch(led, 4, 4)
    assert led.propose_isr_change(0, LAG_MS, 4, AVAILABLE) is None
    led.on_durable(10)
    fetch(led, 2, 10)
    assert led.high_watermark == 4, "the one who joins holds it back"
    led.on_isr_change_refused(change, 10, 0)
    assert led.high_watermark == 10, "a guard failed: nothing was written"
    assert led.maximal_isr == {1, 2}


def test_an_unknown_outcome_counts_until_a_newer_record_comes() -> None:
    led = leader({1, 2}, end=4)
    fetch(led, 3, 4)
    change = change_of(led)
    led.on_isr_change_unknown(change, 0)
    assert led.maximal_isr == {1, 2, 3}
    assert led.propose_isr_change(49, LAG_MS, 4, AVAILABLE) is None, "backoff"
    again = change_of(led, 50)
    assert again.partition_epoch == change.partition_epoch
    led.on_isr_change_refused(again, 10, 50)
    assert led.maximal_isr == {1, 2, 3}, "the first one may still come"
    led.on_partition_record(frozenset({1, 2}), 1, 10)
    assert led.maximal_isr == {1, 2, 3}, "not newer"
    led.on_partition_record(frozenset({1, 2}), 1, 11)
    assert led.maximal_isr == {1, 2}


def test_a_newer_record_in_the_store_is_awaited() -> None:
    led = leader({1, 2}, end=4)
    fetch(led, 3, 4)
    change = change_of(led)
    led.on_isr_change_refused(change, 14, 0)
    assert led.maximal_isr == {1, 2, 3}
    assert led.propose_isr_change(10_000, LAG_MS, 4, AVAILABLE) is None
    led.on_partition_record(frozenset({1}), 1, 14)
    assert led.maximal_isr == {1}
    assert change_of(led, 10_000).isr == {1, 3}


def test_outcomes_after_the_watch_are_late() -> None:
    led = leader({1, 2}, end=4)
    fetch(led, 3, 4)
    change = change_of(led)
    led.on_partition_record(frozenset({1, 2, 3}), 1, 12)
    led.on_partition_record(frozenset({1, 2}), 1, 13)
    assert not led.on_isr_change_applied(change, 12)
    led.on_isr_change_unknown(change, 0)
    led.on_isr_change_refused(change, 12, 0)
    assert led.maximal_isr == {1, 2}


def test_a_replica_taken_away_no_longer_fetches() -> None:
    led = leader({1, 2}, end=4)
    fetch(led, 3, 4)
    led.on_partition_record(frozenset({1, 2}), 1, 12, frozenset({1, 2}))
    assert fetch(led, 3, 4).error is ErrorCode.UNKNOWN_LEADER_EPOCH
    assert led.propose_isr_change(0, LAG_MS, 4, AVAILABLE) is None


# -- waiters


def test_waiters_are_released_in_order_and_a_repeat_waits_with_the_last() -> None:
    waiters: OffsetWaiters[str] = OffsetWaiters()
    waiters.park(5, "a")
    waiters.park(9, "b")
    waiters.park(5, "repeat of a")
    assert waiters.release(4) == []
    assert waiters.release(8) == [(5, "a", 0)]
    assert waiters.release(9) == [(9, "b", 0), (9, "repeat of a", 0)]
    waiters.park(20, "c", 7)
    assert waiters.drain() == [(20, "c", 7)]
    assert len(waiters) == 0
