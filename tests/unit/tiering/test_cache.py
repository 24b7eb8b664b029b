"""Memory before GETs, one flight per chunk, and who has to go."""

from __future__ import annotations

import asyncio

import pytest

from tiering.errors import Throttled, Unavailable
from tiering.objects.memory import MemoryStore
from tiering.objects.port import Buffer
from tiering.objects.wrapping import WrappedStore
from tiering.reading.cache import ChunkCache, Fetch, Slot
from tiering.reading.gets import RangedGets


class Origin:
    """Chunks of ten bytes that arrive when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def chunk(self, key: str) -> Fetch:
        async def fetch() -> memoryview:
            self.asked.append(key)
            await self.gate.wait()
            if key.startswith("bad"):
                raise Unavailable("no", key=key)
            return memoryview(key.encode().ljust(10))

        return fetch


async def take(cache: ChunkCache, origin: Origin, key: str) -> bytes:
    slot = cache.demand(key, 10, origin.chunk(key))
    assert slot.task is not None
    await asyncio.wait((slot.task,))
    slot.task.result()
    assert slot.data is not None
    cache.get(key)
    return bytes(slot.data)


async def test_one_flight_and_then_a_hit() -> None:
    cache, origin = ChunkCache(100), Origin()
    results = await asyncio.gather(*(take(cache, origin, "a") for _ in range(5)))
    assert results == [b"a         "] * 5
    assert origin.asked == ["a"]
    assert cache.used_bytes == 10


async def test_the_budget_bounds_what_is_ready_and_in_flight() -> None:
    cache, origin = ChunkCache(30), Origin()
    origin.gate.clear()
    slots = [cache.demand(str(i), 10, origin.chunk(str(i))) for i in range(10)]
    await asyncio.sleep(0.001)
    assert len(origin.asked) == 3
    assert cache.used_bytes == 30
    origin.gate.set()
    await asyncio.wait([slot.task for slot in slots if slot.task])
    assert origin.asked == [str(i) for i in range(10)], "in order of arrival"
    assert cache.used_bytes == 30
    assert all(slot.data is not None for slot in slots), "whoever waited has his data, evicted or not"


async def test_a_failed_load_is_told_and_forgotten() -> None:
    cache, origin = ChunkCache(30), Origin()
    with pytest.raises(Unavailable):
        await take(cache, origin, "bad")
    assert "bad" not in cache
    assert cache.used_bytes == 0
    cache.read_ahead("bad2", 10, origin.chunk("bad2"))
    await asyncio.sleep(0.001)
    assert cache.used_bytes == 0


async def test_finished_chunks_go_first_and_read_ahead_never_takes_an_open_one() -> None:
    cache, origin = ChunkCache(40), Origin()
    for key in "abcd":
        await take(cache, origin, key)
    assert not cache.read_ahead("e", 10, origin.chunk("e")), "four readers are in the middle of their chunks"
    cache.finish("c")
    assert cache.read_ahead("e", 10, origin.chunk("e"))
    await asyncio.sleep(0.001)
    assert [key for key in "abcde" if key in cache] == ["a", "b", "d", "e"]


async def test_read_ahead_is_bounded_and_gives_way_to_demand() -> None:
    cache, origin = ChunkCache(40), Origin()
    started = [cache.read_ahead(key, 10, origin.chunk(key)) for key in "abcd"]
    assert started == [True, True, True, False]
    await asyncio.sleep(0.001)
    await take(cache, origin, "x")
    await take(cache, origin, "y")
    assert cache.unread_evictions == 1
    assert "a" not in cache


async def test_abandoned_chunks_make_room_for_read_ahead_in_time() -> None:
    cache, origin = ChunkCache(30), Origin()
    await take(cache, origin, "abandoned")
    for i in range(8):
        await take(cache, origin, str(i))
        cache.finish(str(i))
    assert "abandoned" not in cache or cache.read_ahead("next", 10, origin.chunk("next"))


async def test_a_chunk_larger_than_the_budget_passes_alone() -> None:
    cache, origin = ChunkCache(5), Origin()
    assert await take(cache, origin, "big") == b"big       "
    assert cache.used_bytes == 5


async def test_close_cancels_what_is_in_flight() -> None:
    cache, origin = ChunkCache(20), Origin()
    origin.gate.clear()
    slots: list[Slot] = [cache.demand(str(i), 10, origin.chunk(str(i))) for i in range(4)]
    await asyncio.sleep(0.001)
    await cache.close()
    assert cache.used_bytes == 0
    assert all(slot.task is not None and slot.task.cancelled() for slot in slots)


class Scripted(WrappedStore):
    """GETs that end when the test says so."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.running: list[asyncio.Future[Buffer]] = []

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        future: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
        self.running.append(future)
        return await future


async def test_concurrency_halves_when_the_store_throttles_and_grows_again() -> None:
    store = Scripted()
    gets = RangedGets(store, concurrency_max=8)
    tasks = [asyncio.create_task(gets.get_range("k", 0, 1, is_ahead=False)) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(store.running) == 8
    store.running[0].set_exception(Throttled("slow down"))
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert gets.concurrency_limit == 4
    done = 1
    while done < len(tasks):
        for future in store.running[done:]:
            future.set_result(b"x")
            done += 1
        await asyncio.sleep(0.001)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(r) for r in results].count(Throttled) == 1
    assert gets.concurrency_limit > 4


async def test_demand_goes_before_read_ahead() -> None:
    store = Scripted()
    gets = RangedGets(store, concurrency_max=1)
    order: list[str] = []

    async def get(name: str, is_ahead: bool) -> None:
        await gets.get_range(name, 0, 1, is_ahead=is_ahead)
        order.append(name)

    tasks = [asyncio.create_task(get("first", False))]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(get("ahead", True)), asyncio.create_task(get("demand", False))]
    for i in range(3):
        await asyncio.sleep(0.001)
        store.running[i].set_result(b"x")
    await asyncio.gather(*tasks)
    assert order == ["first", "demand", "ahead"]


async def test_a_straggler_is_asked_twice_and_the_first_answer_wins() -> None:
    store = Scripted()
    gets = RangedGets(store)
    for i in range(64):
        task = asyncio.create_task(gets.get_range("k", 0, 1, is_ahead=False))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        store.running[i].set_result(b"x")
        await task
    gets._hedge_after_s = 0.001
    task = asyncio.create_task(gets.get_range("slow", 0, 4, is_ahead=False))
    while len(store.running) < 66:
        await asyncio.sleep(0.001)
    store.running[65].set_result(b"fast")
    assert bytes(await task) == b"fast"
    assert gets.stats.hedge_count == 1
    assert store.running[64].cancelled()
