"""GETs of the read path: how many at once, demand first, retries, the quota, and when one is asked for twice."""

from __future__ import annotations

import asyncio

import pytest

from tests.patience import PATIENT_S
from tiering.errors import NotFound, ObjectStoreError, Throttled, Unavailable
from tiering.objects.memory import MemoryStore
from tiering.objects.port import Buffer
from tiering.objects.retrying import RetryingStore, RetryPolicy
from tiering.objects.wrapping import WrappedStore
from tiering.reading.gets import LEAVES_S, RangedGets, never_ahead
from tiering.reading.pacing import (
    HEDGE_AFTER_MIN_S,
    HEDGE_SHARE,
    JUDGED,
    REST_GETS,
    SAMPLES_MIN,
    Concurrency,
    Hedging,
    RecentTimes,
)

QUICK = RetryPolicy(attempts_max=5, first_pause_s=0.001, pause_max_s=0.001)


def ahead() -> bool:
    return True


class Scripted(WrappedStore):
    """GETs that end when the test says so."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.running: list[asyncio.Future[Buffer]] = []
        self.keys: list[str] = []

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        future: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
        self.running.append(future)
        self.keys.append(key)
        return await future

    async def asked(self, count: int) -> None:
        async with asyncio.timeout(PATIENT_S):
            while len(self.running) < count:
                await asyncio.sleep(0)


async def test_concurrency_halves_when_the_store_throttles_and_grows_again() -> None:
    store = Scripted()
    gets = RangedGets(store, concurrency_max=8)
    tasks = [asyncio.create_task(gets.get_range("k", 0, 1, is_ahead=never_ahead)) for _ in range(20)]
    await store.asked(8)
    for future in store.running[:3]:
        future.set_exception(Throttled("slow down"))
    while gets.stats.push_back_count < 3:
        await asyncio.sleep(0)
    assert gets.concurrency_limit == 4, "three of one round halve it once"
    done = 3
    while done < len(tasks):
        await store.asked(done + 1)
        for future in store.running[done:]:
            future.set_result(b"x")
            done += 1
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(r) for r in results].count(Throttled) == 3
    assert gets.concurrency_limit > 4


class Failing(WrappedStore):
    """Refuses so many GETs."""

    def __init__(self, errors: list[ObjectStoreError]) -> None:
        super().__init__(MemoryStore())
        self.errors = errors

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        if self.errors:
            raise self.errors.pop(0)
        return bytes(end - start)


async def test_each_attempt_is_seen_and_retried_here() -> None:
    gets = RangedGets(RetryingStore(Failing([Throttled("503"), Unavailable("reset")]), QUICK))
    assert len(await gets.get_range("k", 0, 5, is_ahead=never_ahead)) == 5
    assert (gets.stats.get_count, gets.stats.retry_count, gets.stats.push_back_count) == (3, 2, 2)
    assert gets.concurrency_limit < 48


async def test_what_cannot_be_helped_is_told_at_once() -> None:
    gets = RangedGets(RetryingStore(Failing([NotFound("gone")]), QUICK))
    with pytest.raises(NotFound):
        await gets.get_range("k", 0, 5, is_ahead=never_ahead)
    assert (gets.stats.get_count, gets.stats.push_back_count) == (1, 0)


async def test_retries_come_to_an_end() -> None:
    gets = RangedGets(RetryingStore(Failing([Unavailable("down")] * 9), QUICK))
    with pytest.raises(Unavailable):
        await gets.get_range("k", 0, 5, is_ahead=never_ahead)
    assert gets.stats.get_count == QUICK.attempts_max


async def test_demand_goes_before_read_ahead_and_so_does_what_is_demanded_meanwhile() -> None:
    store = Scripted()
    gets = RangedGets(store, concurrency_max=1)
    is_demanded = False
    tasks = [asyncio.create_task(gets.get_range("first", 0, 1, is_ahead=never_ahead))]
    await store.asked(1)
    for name, is_ahead in (
        ("ahead", ahead),
        ("later demanded", lambda: not is_demanded),
        ("demand", never_ahead),
    ):
        tasks.append(asyncio.create_task(gets.get_range(name, 0, 1, is_ahead=is_ahead)))
    await asyncio.sleep(0)
    is_demanded = True
    for count in range(1, 5):
        await store.asked(count)
        store.running[-1].set_result(b"x")
    await asyncio.gather(*tasks)
    assert store.keys == ["first", "later demanded", "demand", "ahead"]


async def test_a_straggler_is_asked_twice_and_the_first_answer_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiering.reading.pacing.HEDGE_AFTER_MIN_S", 0.001)
    store = Scripted()
    gets = RangedGets(store)
    for i in range(64):
        task = asyncio.create_task(gets.get_range("k", 0, 1, is_ahead=never_ahead))
        await store.asked(i + 1)
        store.running[i].set_result(b"x")
        await task
    task = asyncio.create_task(gets.get_range("slow", 0, 1, is_ahead=never_ahead))
    async with asyncio.timeout(PATIENT_S):
        while len(store.running) < 66:
            await asyncio.sleep(0.001)
    store.running[65].set_result(b"f")
    assert bytes(await task) == b"f"
    assert (gets.stats.hedge_count, gets.stats.hedge_win_count) == (1, 1)
    await ended(store.running[64])
    assert store.running[64].cancelled()


async def ended(get: asyncio.Future[Buffer]) -> None:
    async with asyncio.timeout(PATIENT_S):
        while not get.done():
            await asyncio.sleep(0.001)


async def test_a_get_that_is_given_up_at_once_leaves_first_and_keeps_its_part_of_the_limit() -> None:
    store = Scripted()
    gets = RangedGets(store, concurrency_max=1)
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(gets.get_range("k", 0, 1, is_ahead=never_ahead))
    await store.asked(1)
    began_s = loop.time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    late = asyncio.create_task(gets.get_range("late", 0, 1, is_ahead=never_ahead))
    await ended(store.running[0])
    assert store.running[0].cancelled()
    assert loop.time() - began_s >= 0.8 * LEAVES_S
    await store.asked(2)
    assert store.keys == ["k", "late"]
    store.running[1].set_result(b"x")
    assert bytes(await late) == b"x"
    assert gets.idle_share == 1


async def test_above_the_quota_a_get_waits_and_a_new_quota_holds_at_once() -> None:
    gets = RangedGets(Failing([]))
    gets.set_rate(1_000)
    await gets.get_range("k", 0, 1_000, is_ahead=never_ahead)  # what a second allows goes at once
    late = asyncio.create_task(gets.get_range("k", 0, 100_000_000, is_ahead=never_ahead))
    await asyncio.sleep(0.01)
    assert not late.done()
    assert gets.stats.get_count == 1
    gets.set_rate(0)
    async with asyncio.timeout(PATIENT_S):
        await late
    assert gets.throttle_times.average_and_longest(asyncio.get_running_loop().time())[1] >= 0.01


class TestConcurrency:
    def test_it_never_falls_below_one_nor_grows_beyond_its_bound(self) -> None:
        concurrency = Concurrency(8)
        for now_s in range(20):
            concurrency.pushed_back(now_s, now_s + 0.5)
        assert concurrency.limit == 1
        for _ in range(1_000):
            concurrency.succeeded()
        assert concurrency.limit == 8


class TestHedging:
    @staticmethod
    def seasoned() -> Hedging:
        hedging = Hedging()
        for _ in range(10 * SAMPLES_MIN):
            hedging.began()
            hedging.ended(1_000, 0.1)
        return hedging

    def test_none_before_it_knows_what_is_usual(self) -> None:
        hedging = Hedging()
        assert hedging.after_s(1_000) is None
        assert self.seasoned().after_s(1_000) == pytest.approx(0.15)
        assert self.seasoned().after_s(1_000_000) is None, "another size takes another time"

    def test_a_near_store_is_not_hedged_sooner_than_it_pays(self) -> None:
        hedging = Hedging()
        for _ in range(SAMPLES_MIN):
            hedging.began()
            hedging.ended(1_000, 0.001)
        assert hedging.after_s(1_000) == HEDGE_AFTER_MIN_S

    def test_hedges_are_a_small_share_of_all(self) -> None:
        hedging, hedges = self.seasoned(), 0
        for _ in range(1_000):
            hedging.began()
            if hedging.after_s(1_000) is not None:
                hedging.hedged()
                hedges += 1
        assert 0 < hedges <= HEDGE_SHARE * (1_000 + 10 * SAMPLES_MIN) + 1

    def test_none_for_a_while_where_they_rarely_win(self) -> None:
        hedging = self.seasoned()
        for _ in range(JUDGED):
            hedging.judged(False)
        assert hedging.after_s(1_000) is None
        for _ in range(REST_GETS):
            hedging.began()
        assert hedging.after_s(1_000) is not None
        for _ in range(JUDGED):
            hedging.judged(True)
        assert hedging.after_s(1_000) is not None


def test_recent_times_forget() -> None:
    times = RecentTimes()
    times.note(1.0, 1.0)
    times.note(3.0, 2.0)
    assert times.average_and_longest(10.0) == (2.0, 3.0)
    assert times.average_and_longest(35.0) == (2.0, 3.0)
    assert times.average_and_longest(95.0) == (0.0, 0.0)
