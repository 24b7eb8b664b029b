"""Fetches of what is not in memory: what they hold meanwhile, what they leave behind, and who gets what of the budget."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.patience import PATIENT_S
from tests.unit.broker.test_handlers import fetch_of, part, rows_of, settled, start
from tests.unit.offload.brokers import Running, World, produce, until
from tiering.objects.faulty import Faults, FaultyStore
from tiering.objects.memory import MemoryStore
from tiering.objects.port import Buffer
from tierlog.broker.fetch.fetching import Fetch
from tierlog.broker.fetch.look import Look
from tierlog.broker.fetch.partition_read import PartitionRead
from tierlog.broker.fetch.parts import FetchParts
from tierlog.broker.fetch.slow_reads import SlowReads, Taker
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.log.log import Log
from tierlog.log.reading import Slice
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic

VERSION = 12
OF_A_FETCH = (Fetch, Look, SlowReads, PartitionRead)


class HeldStore(FaultyStore):
    """Reads of what is held wait until it is let go."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(), Faults(), seed=1)
        self.held: set[str] = set()
        self.gate = asyncio.Event()
        self.waiting_count = 0

    def hold(self, *tiers: PartitionTier) -> None:
        """From now on, and no others."""
        self.gate.clear()
        self.held = {tier.keys.segment(entry) for tier in tiers for entry in tier.head.tail}

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        self.waiting_count += 1
        try:
            if key in self.held:
                await self.gate.wait()
        finally:
            self.waiting_count -= 1
        return await super().get_range(key, start, end)


@pytest.fixture
def store() -> HeldStore:
    return HeldStore()


@pytest.fixture
async def running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: HeldStore
) -> AsyncIterator[Running]:
    world = World(tmp_path, monkeypatch)
    world.objects = store
    async with world.broker(remote_fetch_max_wait_ms="60000") as made:
        yield made
        store.gate.set()


async def tiered(running: Running, topic: str = "t") -> PartitionTier:
    """Offsets [0, 40) in the tier alone, [40, 60) here."""
    partition = await running.create(topic)
    produce(partition, 30)
    tier = await running.tiered(partition)
    await until(lambda: partition.log.local_log_start_offset == 40)
    return tier


async def local(running: Running, topic: str) -> Partition:
    """Five batches, here alone."""
    partition = await running.create(topic)
    produce(partition, 5)
    await until(lambda: partition.high_watermark == 10)
    return partition


async def answered(later: Any) -> Any:
    return await asyncio.wait_for(settled(later), PATIENT_S)


@contextmanager
def nothing_stays() -> Iterator[None]:
    """Reference counting alone frees all that the fetches in this block consisted of."""
    gc.collect()
    gc.disable()
    try:
        before = [type(each) for each in gc.get_objects() if isinstance(each, OF_A_FETCH)]
        yield
        found = [type(each) for each in gc.get_objects() if isinstance(each, OF_A_FETCH)]
        assert found == before
    finally:
        gc.enable()


class TestWhatIsLeftBehind:
    async def test_by_a_read_from_the_disk(self, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        await tiered(running)
        monkeypatch.setattr(Log, "read_nowait", lambda log, found: None)
        with nothing_stays():
            later = start(running.broker, fetch_of(part(offset=40)), VERSION)
            assert next(rows_of(await answered(later))).records
            del later
            await asyncio.sleep(0)

    async def test_by_a_read_from_the_tier(self, running: Running) -> None:
        await tiered(running)
        with nothing_stays():
            later = start(running.broker, fetch_of(part(offset=0)), VERSION)
            assert next(rows_of(await answered(later))).records
            del later
            await asyncio.sleep(0)

    async def test_by_one_that_was_given_up(self, store: HeldStore, running: Running) -> None:
        store.hold(await tiered(running))
        with nothing_stays():
            later = start(running.broker, fetch_of(part(offset=0)), VERSION)
            await until(lambda: store.waiting_count > 0)
            later.cancel()
            del later
            for _ in range(50):  # its tasks end one after the other
                await asyncio.sleep(0)
        assert running.broker.reply_memory.used_bytes == 0


def of_topics(*asked: tuple[str, FetchPartition], **limits: int) -> FetchRequest:
    """A fetch of partition 0 of each topic, in this order."""
    topics = [FetchTopic(topic=name, partitions=[partition]) for name, partition in asked]
    request = FetchRequest(topics=topics, session_epoch=-1, max_wait_ms=60_000, min_bytes=1)
    for name, limit in limits.items():
        setattr(request, name, limit)
    return request


async def sizes(later: Any) -> dict[str, int]:
    response = later if isinstance(later, FetchResponse) else await answered(later)
    return {topic.topic: len(joined(topic.partitions[0].records)) for topic in response.responses}


def joined(records: Any) -> bytes:
    return b"".join(records) if isinstance(records, list) else bytes(records)


class TestTheBudget:
    """``t`` comes first and is only in a tier that does not answer; one batch has 2,000 bytes and some."""

    @pytest.mark.parametrize("limits", [{"max_bytes": 5_000}, {"max_bytes": 50 << 20}])
    async def test_what_is_asked_of_the_tier_takes_nothing_from_what_is_here(
        self, store: HeldStore, running: Running, limits: dict[str, int]
    ) -> None:
        store.hold(await tiered(running))
        await local(running, "here")
        request = of_topics(("t", part(max_bytes=1 << 20)), ("here", part(max_bytes=4_500)), **limits)
        got = await sizes(start(running.broker, request, VERSION))
        assert got["t"] == 0
        assert 4_000 < got["here"] < 4_500

    async def test_the_first_batch_that_is_here_comes_whole(self, store: HeldStore, running: Running) -> None:
        store.hold(await tiered(running))
        await local(running, "here")
        request = of_topics(("t", part()), ("here", part(max_bytes=10)))
        got = await sizes(start(running.broker, request, VERSION))
        assert got["t"] == 0
        assert 2_000 < got["here"] < 2_500

    async def test_the_first_batch_that_comes_from_the_tier_comes_whole(
        self, store: HeldStore, running: Running
    ) -> None:
        store.hold(await tiered(running))
        for topic in ("quick", "quicker"):
            await tiered(running, topic)
        asked = ((topic, part(max_bytes=10)) for topic in ("t", "quick", "quicker"))
        got = await sizes(start(running.broker, of_topics(*asked), VERSION))
        assert got["t"] == 0
        assert sorted(size > 2_000 for size in got.values()) == [False, False, True], (
            "one of them, and no more"
        )
        assert running.broker.reply_memory.used_bytes == 0

    async def test_what_comes_late_takes_what_the_others_have_left(
        self, store: HeldStore, running: Running
    ) -> None:
        await tiered(running)
        await local(running, "here")
        asked = (("t", part()), ("here", part()))
        limits = {"max_bytes": 11_000, "min_bytes": 11_000}
        got = await sizes(start(running.broker, of_topics(*asked, **limits), VERSION))
        assert got["here"] > 5 * 2_000
        assert got["t"] == 0
        got = await sizes(start(running.broker, of_topics(*asked, **limits), VERSION))
        assert got["t"] > 5 * 2_000
        assert sum(got.values()) <= 11_000


async def test_what_there_is_no_memory_for_is_left_to_the_next_fetch(
    store: HeldStore, running: Running
) -> None:
    store.hold(await tiered(running))
    memory, streams = running.broker.reply_memory, running.tiering.reader._cache.admission.streams
    later = start(running.broker, fetch_of(part(offset=0)), VERSION)
    await until(lambda: store.waiting_count > 0)
    memory.reserve(memory.limit_bytes)
    store.gate.set()
    assert not next(rows_of(await answered(later))).records
    (stream,) = streams
    assert stream.offset == 0, "it goes on where it was"
    memory.give_back(memory.limit_bytes)
    assert joined(next(rows_of(start(running.broker, fetch_of(part(offset=0)), VERSION))).records)


async def test_the_disk_may_be_done_while_the_wait_for_the_tier_ends() -> None:
    parts = cast("FetchParts", SimpleNamespace(loop=asyncio.get_running_loop()))
    reads = SlowReads(parts, cast("Taker", None))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0) as reads._patience:
            try:
                await asyncio.sleep(PATIENT_S)
            except asyncio.CancelledError:
                reads._wait_no_longer_than(0.0)
                raise


async def test_a_bug_in_one_read_ends_the_others_and_keeps_no_memory(
    store: HeldStore, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(log: Log, found: Slice) -> bytes:
        raise ZeroDivisionError

    store.hold(await tiered(running))
    await local(running, "here")
    monkeypatch.setattr(Log, "read_nowait", lambda log, found: None)
    monkeypatch.setattr(Log, "read", read)
    request = of_topics(("t", part()), ("here", part()))
    ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    later: DelayedResponse[FetchResponse] = start(running.broker, request, VERSION)
    later.add_done_callback(lambda later: ended.set_result(later.exception()))
    assert isinstance(await asyncio.wait_for(ended, PATIENT_S), ZeroDivisionError)
    store.gate.set()
    await until(lambda: not store.waiting_count)
    await until(lambda: running.tiering.reader.cached_bytes > 0)
    assert running.broker.reply_memory.used_bytes == 0
