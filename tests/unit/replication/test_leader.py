"""The high watermark: min over the maximal ISR, monotone, frozen below min ISR."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tierlog.replication.leader import Leader
from tierlog.replication.waiters import OffsetWaiters


def leader(isr: set[int], min_isr: int = 1, end: int = 0) -> Leader:
    return Leader(
        broker_id=1,
        leader_epoch=3,
        epoch_start_offset=end,
        isr=frozenset(isr),
        min_isr=min_isr,
        partition_epoch=10,
        durable_end_offset=end,
        high_watermark=0,
    )


def test_alone_it_follows_the_durable_end() -> None:
    alone = leader({1})
    assert alone.on_durable(5)
    assert alone.high_watermark == 5
    assert not alone.on_durable(4)
    assert alone.high_watermark == 5


def test_it_waits_for_every_in_sync_follower() -> None:
    led = leader({1, 2, 3})
    assert not led.on_durable(10)
    assert not led.on_follower_fetch(2, 1, 8)
    assert led.on_follower_fetch(3, 1, 6)
    assert led.high_watermark == 6
    assert led.on_follower_fetch(3, 1, 9)
    assert led.high_watermark == 8


def test_a_pending_expansion_counts_already() -> None:
    led = leader({1, 2})
    led.pending_isr = frozenset({1, 2, 3})
    led.alone = led._is_alone()
    led.on_durable(10)
    assert not led.on_follower_fetch(2, 1, 10)
    assert led.on_follower_fetch(3, 1, 4)
    assert led.high_watermark == 4


def test_below_min_isr_it_stands_still() -> None:
    led = leader({1}, min_isr=2)
    assert not led.accepts_all_acks
    assert not led.on_durable(10)
    assert led.high_watermark == 0
    assert not led.on_partition_record(frozenset({1, 2}), 2, 9), "an older record is ignored"
    led.on_partition_record(frozenset({1, 2}), 2, 11)
    assert led.on_follower_fetch(2, 1, 10)
    assert led.high_watermark == 10


def test_a_shrunk_isr_releases_the_rest() -> None:
    led = leader({1, 2})
    led.on_durable(10)
    led.on_follower_fetch(2, 1, 3)
    assert led.on_partition_record(frozenset({1}), 1, 11)
    assert led.high_watermark == 10


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.integers(0, 100)), max_size=60))
def test_it_never_goes_back_and_never_passes_a_member(steps: list[tuple[int, int]]) -> None:
    led = leader({1, 2, 3}, min_isr=2)
    ends = {1: 0, 2: -1, 3: -1}
    before = 0
    for broker, offset in steps:
        if broker == 1:
            ends[1] = max(ends[1], offset)
            led.on_durable(offset)
        else:
            ends[broker] = offset
            led.on_follower_fetch(broker, 1, offset)
        assert led.high_watermark >= before
        if led.high_watermark > before:
            assert led.high_watermark <= min(ends.values())
        before = led.high_watermark
        led.check()


def test_waiters_are_released_in_order_and_a_repeat_waits_with_the_last() -> None:
    waiters: OffsetWaiters[str] = OffsetWaiters()
    waiters.park(5, "a")
    waiters.park(9, "b")
    waiters.park(5, "repeat of a")
    assert waiters.release(4) == []
    assert waiters.release(8) == ["a"]
    assert waiters.release(9) == ["b", "repeat of a"]
    waiters.park(20, "c")
    assert waiters.drain() == ["c"]
    assert len(waiters) == 0
