"""What each wrapper adds, over the memory store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from tiering.errors import AccessDenied, NotFound, PreconditionFailed, Throttled, Timeout, Unavailable
from tiering.objects.delayed import DelayedStore
from tiering.objects.faulty import Faults, FaultyStore
from tiering.objects.measured import MeasuredStore
from tiering.objects.memory import MemoryStore
from tiering.objects.port import Buffer, ObjectStore, list_all
from tiering.objects.retrying import RetryingStore, RetryPolicy
from tiering.objects.throttled import ThrottledStore, TokenBucket

QUICK = RetryPolicy(attempts_max=8, first_pause_s=0.0001, pause_max_s=0.001, attempt_timeout_s=5.0)
EVERY_FAULT = Faults(
    latency_s_max=0.0002, burst=0.05, burst_calls=3, lost_request=0.1, applied_but_timed_out=0.2
)


def retrying(inner: ObjectStore, policy: RetryPolicy = QUICK) -> RetryingStore:
    return RetryingStore(inner, policy, random.Random(7))


class Repeatable:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read_count = 0

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        self.read_count += 1
        for start in range(0, len(self.data), 100):
            yield self.data[start : start + 100]


@pytest.mark.parametrize("seed", range(20))
async def test_retries_hide_every_passing_fault(seed: int) -> None:
    memory = MemoryStore()
    faulty = FaultyStore(memory, EVERY_FAULT, seed)
    store = retrying(faulty, RetryPolicy(attempts_max=40, first_pause_s=0.0001, pause_max_s=0.0002))
    for number in range(10):
        data = f"object {number}".encode() * 50
        key = f"k/{number}"
        await store.put(key, Repeatable(data), size_bytes=len(data))
        assert bytes(await store.get_range(key, 1, 100)) == data[1:100]
        marker = await store.put(f"m/{number}", data, size_bytes=len(data), if_absent=True)
        info = await store.put_if_match(f"m/{number}", data + b"!", marker.version)
        assert (await store.head(f"m/{number}")).version == info.version
        with pytest.raises(PreconditionFailed):
            await store.put(f"m/{number}", b"another writer", size_bytes=14, if_absent=True)
    assert [info.key async for info in list_all(store, "k/")] == [f"k/{number}" for number in range(10)]
    await store.delete([f"k/{number}" for number in range(10)])
    assert await memory.list("k/") == []
    assert faulty.fault_count > 0
    assert store.retry_count > 0


async def test_faults_repeat_with_their_seed() -> None:
    async def outcomes() -> list[str]:
        store = FaultyStore(MemoryStore(), EVERY_FAULT, 42)
        found = []
        for _ in range(50):
            try:
                await store.put("k", b"x", size_bytes=1)
                found.append("ok")
            except (Throttled, Unavailable, Timeout) as error:
                found.append(type(error).__name__)
        return found

    assert await outcomes() == await outcomes()
    assert {"ok", "Throttled", "Unavailable", "Timeout"} == set(await outcomes())


async def test_a_truncated_body_is_read_again() -> None:
    faulty = FaultyStore(MemoryStore(), Faults(truncated_body=0.5), 3)
    await faulty.put("k", bytes(1000), size_bytes=1000)
    store = retrying(faulty, RetryPolicy(attempts_max=40, first_pause_s=0.0, pause_max_s=0.0))
    for _ in range(20):
        assert len(await store.get_range("k", 0, 1000)) == 1000
    assert store.retry_count > 0


@pytest.mark.parametrize("kind", [AccessDenied, NotFound])
async def test_what_cannot_be_helped_is_not_tried_again(kind: type[AccessDenied]) -> None:
    faulty = FaultyStore(MemoryStore(), Faults(), 1)
    faulty.outage = kind
    measured = MeasuredStore(faulty)
    with pytest.raises(kind):
        await retrying(measured).head("k")
    assert (measured.stats["head"].calls, measured.stats["head"].errors) == (1, {kind.__name__: 1})


async def test_attempts_and_time_are_bounded() -> None:
    faulty = FaultyStore(MemoryStore(), Faults(), 1)
    faulty.outage = Unavailable
    measured = MeasuredStore(faulty)
    with pytest.raises(Unavailable, match="outage"):
        await retrying(measured).get("k")
    assert measured.stats["get"].calls == QUICK.attempts_max
    patient = RetryPolicy(attempts_max=1_000, total_s=0.05, first_pause_s=0.001, pause_max_s=0.01)
    with pytest.raises(Unavailable):
        await retrying(faulty, patient).get("k")
    faulty.outage = None
    faulty.missing.add("k")
    await faulty.put("k", b"x", size_bytes=1)
    with pytest.raises(NotFound):
        await retrying(faulty).get_range("k", 0, 1)


async def test_a_caller_with_a_deadline_gets_out_at_once() -> None:
    faulty = FaultyStore(MemoryStore(), Faults(), 1)
    faulty.outage = Throttled
    patient = RetryPolicy(attempts_max=1_000, first_pause_s=60.0, pause_max_s=60.0, total_s=600)
    store = retrying(faulty, patient)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await store.get("k")


async def test_an_attempt_that_hangs_is_a_timeout() -> None:
    class Hanging(MemoryStore):
        async def get_range(self, key: str, start: int, end: int) -> Buffer:
            await asyncio.Event().wait()
            return b""

    policy = RetryPolicy(attempts_max=2, first_pause_s=0.0, attempt_timeout_s=0.02)
    with pytest.raises(Timeout):
        await retrying(Hanging(), policy).get_range("k", 0, 1)


async def test_streams_are_retried_only_if_they_can_be_read_again() -> None:
    faulty = FaultyStore(MemoryStore(), Faults(applied_but_timed_out=0.9), 5)
    store = retrying(faulty, RetryPolicy(attempts_max=100, first_pause_s=0.0, pause_max_s=0.0))
    again = Repeatable(bytes(1000))
    await store.put("k", again, size_bytes=1000)
    assert again.read_count > 1
    faulty.outage = Unavailable
    with pytest.raises(Unavailable):
        await store.put("k", aiter(again), size_bytes=1000)


async def test_a_lost_answer_to_a_conditional_write_is_recognized() -> None:
    """The write happened, its answer was lost; trying again meets our own object. Another one's is a
    defeat."""
    faulty = FaultyStore(MemoryStore(), Faults(applied_but_timed_out=0.7), 11)
    store = retrying(faulty, RetryPolicy(attempts_max=100, first_pause_s=0.0, pause_max_s=0.0))
    for number in range(20):
        data = f"writer-{number}".encode()
        info = await store.put(f"{number}", data, size_bytes=len(data), if_absent=True)
        assert (await store.get(f"{number}"))[0] == info
        with pytest.raises(PreconditionFailed):
            await store.put(f"{number}", b"rival", size_bytes=5, if_absent=True)


async def test_requests_and_bytes_are_counted() -> None:
    now_s = 0.0

    def clock() -> float:
        nonlocal now_s
        now_s += 0.02
        return now_s

    store = MeasuredStore(MemoryStore(), put_requests=lambda size: -(-size // 100), clock=clock)
    await store.put("k", Repeatable(bytes(950)), size_bytes=950)
    await store.put("small", bytes(10), size_bytes=10)
    await store.get_range("k", 0, 700)
    await store.get("small")
    await store.list("")
    await store.delete(["k", "small"])
    with pytest.raises(NotFound):
        await store.head("k")
    put = store.stats["put"]
    assert (put.calls, put.requests, put.sent_bytes, put.error_count) == (2, 1 + 10, 960, 0)
    assert store.stats["get_range"].received_bytes == 700
    assert store.stats["get"].received_bytes == 10
    assert store.stats["head"].errors == {"NotFound": 1}
    assert sum(put.buckets) == 2 == put.buckets[4]
    assert put.seconds == pytest.approx(0.04)
    assert all(each.in_flight == 0 for each in store.stats.verbs.values())


async def test_cancelled_calls_are_counted_apart() -> None:
    store = MeasuredStore(DelayedStore(MemoryStore(), get_delay_ms=60_000))
    call = asyncio.ensure_future(store.get_range("k", 0, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert store.stats["get_range"].in_flight == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (store.stats["get_range"].in_flight, store.stats["get_range"].cancelled) == (0, 1)


def test_a_token_bucket_keeps_its_rate() -> None:
    now_s = 100.0
    bucket = TokenBucket(1_000, burst_bytes=500, clock=lambda: now_s)
    assert bucket.reserve(500) == 0.0
    assert bucket.reserve(1_000) == pytest.approx(1.0)
    assert bucket.reserve(1_000) == pytest.approx(2.0)
    now_s += 2.0
    assert bucket.reserve(100) == pytest.approx(0.1)
    now_s += 60.0
    assert bucket.reserve(500) == 0.0
    assert bucket.reserve(100) == pytest.approx(0.1)
    assert TokenBucket(0).reserve(1 << 40) == 0.0


async def test_a_throttled_store_passes_everything_on() -> None:
    bucket = TokenBucket(1_000_000_000)
    store = ThrottledStore(MemoryStore(), upload=bucket, download=bucket)
    again = Repeatable(bytes(1000))
    info = await store.put("a", again, size_bytes=1000)
    await store.put("b", aiter(again), size_bytes=1000)
    await store.put_if_match("a", b"four", info.version)
    assert bytes((await store.get("a"))[1]) == b"four"
    assert len(await store.get_range("b", 0, 1000)) == 1000
    slow = ThrottledStore(store, upload=TokenBucket(2_000, burst_bytes=1), download=TokenBucket(0))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await slow.put("c", bytes(100), size_bytes=100)
    assert loop.time() - begun >= 0.049


async def test_delays_are_latency_and_not_bandwidth() -> None:
    store = DelayedStore(MemoryStore(), get_delay_ms=40)
    await store.put("k", bytes(100), size_bytes=100)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await asyncio.gather(*(store.get_range("k", 0, 100) for _ in range(20)))
    assert 0.04 <= loop.time() - begun + 0.001 < 0.4
