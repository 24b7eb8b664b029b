"""Broker properties that take effect: each is set to something unusual and seen in what the broker does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tiering.objects.memory import MemoryStore as MemoryObjects
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.cluster.controller_client import ControllerClient
from tierlog.broker.cluster.controller_runner import ControllerRunner
from tierlog.broker.cluster.metadata_feed import MetadataFeed
from tierlog.broker.cluster.registration import BrokerDescription, Registration
from tierlog.broker.node import Broker
from tierlog.broker.offload.service import footer_cache_bytes, throttled
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.upkeep.housekeeping import checkpoint_interval_ms, flush_check_s
from tierlog.cli.broker import embedded
from tierlog.config.broker import BrokerConfig, request_memory_bytes
from tierlog.config.properties import load
from tierlog.errors import ErrorCode
from tierlog.log.files.checkpoints import CLEAN_SHUTDOWN
from tierlog.metadata.control.topics import NewTopic
from tierlog.metadata.image import ImageDelta
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.records.records import Record, build_batch
from tierlog.types import NO_SEQUENCE


@asynccontextmanager
async def running(directory: Path, **overrides: str) -> AsyncIterator[Broker]:
    """A broker in this process; overrides with ``_`` for ``.``."""
    pairs = ["remote.log.storage.system.enable=false"]
    pairs += [f"{name.replace('_', '.')}={value}" for name, value in overrides.items()]
    broker = Broker(embedded(directory, "127.0.0.1", 0, -1, pairs))
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENT_S):
        while not condition():
            await asyncio.sleep(0.005)


async def create(broker: Broker, partitions: int = 1, **configs: str) -> list[Partition]:
    given = {name.replace("_", "."): value for name, value in configs.items()}
    (result,) = await broker.services.admin.create_topics([NewTopic("t", partitions, 1, configs=given)])
    assert result.error is ErrorCode.NONE
    return await led(broker, partitions)


async def led(broker: Broker, partitions: int) -> list[Partition]:
    def found() -> list[Partition]:
        hosted = [broker.replicas.by_name("t", i) for i in range(partitions)]
        return [p for p in hosted if isinstance(p, Partition) and p.leader is not None]

    await until(lambda: len(found()) == partitions)
    return found()


def append(partition: Partition, *, producer_id: int = -1, timestamp: int | None = None) -> None:
    now_ms = wall_clock_ms()
    record = Record(b"k", b"v" * 500, now_ms if timestamp is None else timestamp)
    is_idempotent = producer_id >= 0
    batch = build_batch(
        [record],
        producer_id=producer_id,
        producer_epoch=0 if is_idempotent else -1,
        base_sequence=0 if is_idempotent else NO_SEQUENCE,
    )
    assert partition.append(memoryview(batch), False, now_ms).error is ErrorCode.NONE


async def test_socket_buffers(tmp_path: Path) -> None:
    sizes = {"socket_receive_buffer_bytes": "30000", "socket_send_buffer_bytes": "40000"}
    async with running(tmp_path, **sizes) as broker:
        (listener,) = broker.listeners
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        await until(lambda: listener.connections)
        raw = next(iter(listener.connections)).transport.get_extra_info("socket")
        # The kernel doubles them, for its own bookkeeping.
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 60_000
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 80_000
        writer.close()
        await writer.wait_closed()


def test_queued_request_bytes() -> None:
    assert request_memory_bytes(BrokerConfig()) == 64 << 20
    assert request_memory_bytes(load({"queued.max.request.bytes": "200000000"})) == 200_000_000


class CountingStore(MemoryStore):
    keepalives = 0

    async def keepalive(self, lease: int) -> bool:
        self.keepalives += 1
        return await super().keepalive(lease)


async def test_heartbeat_interval() -> None:
    store = CountingStore(wall_clock_ms)
    feed = MetadataFeed(store)
    await feed.start()
    registration = Registration(store, feed, BrokerDescription(1, ()), heartbeat_interval_ms=5)
    await registration.start()
    await until(lambda: store.keepalives > 3)
    await registration.close(clean=True)
    await feed.close()


@pytest.mark.parametrize("is_enabled", [True, False])
async def test_controlled_shutdown(tmp_path: Path, is_enabled: bool) -> None:
    said: list[bool] = []

    def note(delta: ImageDelta) -> None:
        registration = broker.feed.image.brokers[1].registration
        said.append(registration is not None and registration.want_shut_down)

    async with running(tmp_path, controlled_shutdown_enable=str(is_enabled)) as broker:
        broker.feed.subscribe(note)
    assert (True in said) is is_enabled


async def test_retention_runs_first_after_the_initial_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tierlog.broker.upkeep.housekeeping.TICK_S", 0.01)
    async with running(tmp_path) as broker:
        (partition,) = await create(broker, retention_ms="1", message_timestamp_before_max_ms=str(2**62))
        append(partition, timestamp=1_000)
    async with running(tmp_path, log_initial_task_delay_ms="20") as broker:
        (partition,) = await led(broker, 1)
        await until(lambda: partition.log_start_offset == 1)


async def test_producer_ids_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierlog.broker.upkeep.housekeeping.TICK_S", 0.01)
    often = {"producer_id_expiration_check_interval_ms": "10"}
    async with running(tmp_path / "short", producer_id_expiration_ms="30", **often) as broker:
        (partition,) = await create(broker)
        append(partition, producer_id=7)
        assert len(partition.log.producers) == 1
        await until(lambda: len(partition.log.producers) == 0)


def test_checkpoints_are_written_as_often_as_the_most_eager_wants() -> None:
    assert checkpoint_interval_ms(BrokerConfig()) == 5_000
    assert checkpoint_interval_ms(load({"log.flush.offset.checkpoint.interval.ms": "700"})) == 700
    assert checkpoint_interval_ms(load({"log.flush.start.offset.checkpoint.interval.ms": "9"})) == 9


def test_flush_scheduler_interval() -> None:
    assert flush_check_s(BrokerConfig()) == 1
    assert flush_check_s(load({"log.flush.scheduler.interval.ms": "250"})) == 0.25


async def test_request_timeout() -> None:
    store = MemoryStore(wall_clock_ms)
    feed = MetadataFeed(store)
    await feed.start()
    registration = Registration(store, feed, BrokerDescription(1, ()))
    # Nobody is the controller yet.
    client = ControllerClient(ControllerRunner(store, feed, registration, TopicRules()), 10)
    (result,) = await client.create_topics([NewTopic("t", 1, 1)])
    assert result.error is ErrorCode.REQUEST_TIMED_OUT
    await feed.close()


async def test_rates_of_the_object_store() -> None:
    loop = asyncio.get_running_loop()
    objects = MemoryObjects()
    began_s = loop.time()
    await throttled(BrokerConfig(), objects).put("a", bytes(1 << 20), size_bytes=1 << 20)
    assert loop.time() - began_s < 5
    slow = throttled(load({"remote.log.manager.copy.max.bytes.per.second": "100000"}), objects)
    began_s = loop.time()
    await slow.put("a", bytes(100_000), size_bytes=100_000)  # what a second allows goes at once
    await slow.put("b", bytes(10_000), size_bytes=10_000)
    assert loop.time() - began_s >= 0.09


def test_footers_take_no_more_than_they_need() -> None:
    name = "remote.log.index.file.cache.total.size.bytes"
    assert footer_cache_bytes(load({})) == footer_cache_bytes(load({name: str(2**40)})) == 32 << 20
    assert footer_cache_bytes(load({name: "1000"})) == 1000


async def test_recovery_threads(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        partitions = await create(broker, 12)
        for count, partition in enumerate(partitions):
            for _ in range(count):
                append(partition)
    (tmp_path / "logs" / CLEAN_SHUTDOWN).unlink()
    async with running(tmp_path, num_recovery_threads_per_data_dir="3") as broker:
        partitions = await led(broker, 12)
        assert [partition.log.log_end_offset for partition in partitions] == list(range(12))
