"""A broker in this process whose object store can fail on command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import tierlog.broker.offload.service as service
from tests.patience import PATIENT_S
from tiering.objects.faulty import Faults, FaultyStore
from tiering.objects.memory import MemoryStore
from tierlog.broker.fetch.remote_port import RemoteAsk
from tierlog.broker.node import Broker
from tierlog.broker.offload.service import Tiering
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition
from tierlog.cli.broker import embedded
from tierlog.errors import ErrorCode
from tierlog.metadata.control.topics import NewTopic
from tierlog.records.batch import walk_whole
from tierlog.records.records import Record, build_batch

TIERED = {
    "remote.storage.enable": "true",
    "local.retention.bytes": "1",
    "retention.ms": "-1",
}


class World:
    """What outlives a broker: its directory, its object store."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.objects = FaultyStore(MemoryStore(), Faults(), seed=1)
        monkeypatch.setattr(service, "open_store", lambda url, stats, writes=True: self.objects)
        monkeypatch.setattr("tierlog.broker.offload.fit.open_store", lambda url, writes, stats: self.objects)
        monkeypatch.setattr("tierlog.broker.offload.driver.TICK_S", 0.01)
        monkeypatch.setattr("tierlog.broker.offload.driver.BACKOFF_MIN_MS", 10)
        monkeypatch.setattr("tierlog.broker.offload.driver.IDLE_RECHECK_MS", 20)
        monkeypatch.setattr("tierlog.broker.offload.cleaning.purge.TICK_S", 0.01)
        monkeypatch.setattr("tierlog.broker.offload.cleaning.sweeper.TICK_S", 0.01)
        monkeypatch.setattr("tierlog.broker.offload.service.CLAIM_RETRY_S", 0.01)

    @asynccontextmanager
    async def broker(self, **overrides: str) -> AsyncIterator[Running]:
        """A running broker; a clean stop at the end."""
        pairs = ["tierlog.remote.delete.grace.ms=0"]
        pairs += [f"{name.replace('_', '.')}={value}" for name, value in overrides.items()]
        broker = Broker(embedded(self.directory, "127.0.0.1", 0, -1, pairs))
        await broker.start()
        try:
            yield Running(broker)
        finally:
            await broker.stop()


class Running:
    def __init__(self, broker: Broker) -> None:
        assert broker.tiering is not None
        self.broker = broker
        self.tiering: Tiering = broker.tiering

    async def create(self, name: str = "t", **configs: str) -> Partition:
        given = TIERED | {key.replace("_", "."): value for key, value in configs.items()}
        topic = NewTopic(name, 1, 1, configs=given)
        (result,) = await self.broker.services.admin.create_topics([topic])
        assert result.error is ErrorCode.NONE, result
        return await self.leading(name)

    async def leading(self, name: str = "t") -> Partition:
        await until(lambda: self._leads(name))
        found = self.broker.replicas.by_name(name, 0)
        assert isinstance(found, Partition)
        return found

    def _leads(self, name: str) -> bool:
        found = self.broker.replicas.by_name(name, 0)
        return isinstance(found, Partition) and found.leader is not None

    async def tiered(self, partition: Partition) -> PartitionTier:
        """The tier once all that is sealed is in it, and local segments are gone."""
        tier = partition.remote
        assert isinstance(tier, PartitionTier)
        await until(lambda: tier.end_offset == partition.log.active_base_offset)
        return tier

    async def read_all(self, partition: Partition, offset: int) -> bytes:
        """Everything from ``offset`` to the log end, remote and local."""
        got = b""
        loop = asyncio.get_running_loop()
        while offset < partition.log.local_log_start_offset:
            read = await self.tiering.reads.read(RemoteAsk(partition, offset, 10_000, True), loop.time() + 5)
            assert read.error is ErrorCode.NONE
            assert read.size_bytes
            assert isinstance(read.records, list)
            got += b"".join(read.records)
            offset = next_offset(got)
        while (found := partition.log.locate(offset, 1_000_000, 10**9)) is not None:
            got += partition.log.read(found)
            offset = next_offset(got)
        return got


def next_offset(batches: bytes) -> int:
    *_, (_, last) = walk_whole(batches)
    return last.base_offset + last.last_offset_delta + 1


def produce(partition: Partition, count: int, *, first: int = 0, batches_per_segment: int = 10) -> bytes:
    """Appends batches of two records, rolling often; the bytes as they stand in the log."""
    written = b""
    for i in range(first, first + count):
        if i % batches_per_segment == 0:
            partition.log.roll(1_000 + i)
        value = bytes([i % 251]) * 1_000
        timestamp = 1_000 + (i * 37) % 500
        batch = build_batch([Record(b"k", value, timestamp), Record(b"k", value, timestamp + 5)])
        result = partition.append(memoryview(batch), False, 1_000 + i)
        assert result.error is ErrorCode.NONE, result
        written += batch
    return written


async def until(condition: Callable[[], bool], timeout_s: float = PATIENT_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
