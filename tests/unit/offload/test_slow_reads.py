"""Fetches of what is not in memory: what they hold meanwhile, what they leave behind, and who gets what of the budget."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
from tierlog.broker.fetch.slow_reads import SlowReads
from tierlog.broker.replicas.partition import Partition
from tierlog.log.log import Log

VERSION = 12
OF_A_FETCH = (Fetch, Look, SlowReads, PartitionRead)


class HeldStore(FaultyStore):
    """Reads of segments end when the gate is open."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(), Faults(), seed=1)
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting_count = 0

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        self.waiting_count += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting_count -= 1
        return await super().get_range(key, start, end)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path, monkeypatch)
    made.objects = HeldStore()
    return made


@pytest.fixture
async def running(world: World) -> AsyncIterator[Running]:
    async with world.broker(remote_fetch_max_wait_ms="60000") as made:
        yield made
        held(world).gate.set()


def held(world: World) -> HeldStore:
    assert isinstance(world.objects, HeldStore)
    return world.objects


async def tiered(running: Running) -> Partition:
    """Offsets [0, 40) in the tier alone, [40, 60) here."""
    partition = await running.create()
    produce(partition, 30)
    await running.tiered(partition)
    await until(lambda: partition.log.local_log_start_offset == 40)
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

    async def test_by_one_that_was_given_up(self, world: World, running: Running) -> None:
        await tiered(running)
        held(world).gate.clear()
        store = held(world)
        with nothing_stays():
            later = start(running.broker, fetch_of(part(offset=0)), VERSION)
            await until(lambda: store.waiting_count > 0)
            later.cancel()
            del later
            for _ in range(50):  # its tasks end one after the other
                await asyncio.sleep(0)
        assert running.broker.reply_memory.used_bytes == 0
