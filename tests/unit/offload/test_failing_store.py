"""An object store that fails in the ways that need more than patience: each found by breaking a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.offload.brokers import World, produce, until
from tiering.errors import AccessDenied, ObjectStoreError, Unavailable
from tiering.keys import deletion_marker
from tiering.objects.faulty import Faults
from tierlog.broker.fetch.remote_port import RemoteAsk
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import ErrorCode


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


async def objects(world: World, partition: Partition) -> list[str]:
    found = [info.key for info in await world.objects.inner.list("")]
    return [key for key in found if key.endswith(".seg")]


async def test_a_shortened_object_is_a_storage_error_and_heals(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        written = produce(partition, 30)
        tier = await running.tiered(partition)
        key = tier.keys.segment(tier.head.tail[0])
        _, whole = await world.objects.get(key)
        await world.objects.put(key, whole[:1000], size_bytes=1000)
        loop = asyncio.get_running_loop()
        with capture_logs() as logs:
            for _ in range(3):
                read = await running.tiering.reads.read(
                    RemoteAsk(partition, 0, 10_000, True), loop.time() + 5
                )
                assert read.error is ErrorCode.KAFKA_STORAGE_ERROR
        assert running.tiering.counters.total("fetch_errors") == 3
        (line,) = [line for line in logs if line["event"] == "remote data cannot be read"]
        assert key in line["why"]
        await world.objects.put(key, whole, size_bytes=len(whole))
        assert await running.read_all(partition, 0) == written


async def test_an_outage_is_counted_by_fetch_and_logged_once(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        produce(partition, 30)
        await running.tiered(partition)
        world.objects.outage = AccessDenied
        loop = asyncio.get_running_loop()
        with capture_logs() as logs:
            for _ in range(5):
                read = await running.tiering.reads.read(
                    RemoteAsk(partition, 0, 10_000, True), loop.time() + 0.2
                )
                assert (read.error, read.size_bytes) == (ErrorCode.NONE, 0)
            produce(partition, 30, first=30)
            await until(lambda: running.tiering.counters.total("copy_errors") >= 3)
        assert running.tiering.counters.total("fetch_errors") == 5
        events = [line["event"] for line in logs]
        assert events.count("the object store does not answer") == 1
        assert events.count("tiering will be tried again") == 1
        world.objects.outage = None


async def test_failed_fetches_count_once_and_other_questions_do_not(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        produce(partition, 30)
        tier = await running.tiered(partition)
        reads, counters = running.tiering.reads, running.tiering.counters
        ask, loop = RemoteAsk(partition, 0, 10_000, True), asyncio.get_running_loop()
        world.objects.outage = AccessDenied
        assert reads.read_now(ask) is None
        await until(lambda: reads.read_now(ask) is None and counters.total("fetch_errors") > 0)
        assert counters.total("fetch_errors") == counters.total("fetch_requests") == 1
        answer = await reads.offset_for_timestamp(partition, 1_000, loop.time() + 0.2)
        assert answer is ErrorCode.REQUEST_TIMED_OUT
        world.objects.outage = None
        world.objects.missing = {tier.keys.segment(entry) for entry in tier.head.tail}
        answer = await reads.offset_for_timestamp(partition, 1_000, loop.time() + 5)
        assert answer is ErrorCode.KAFKA_STORAGE_ERROR
        assert counters.total("fetch_errors") == 1


async def test_what_cannot_be_deleted_holds_up_no_copies(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def denied(keys: Iterable[str]) -> dict[str, ObjectStoreError]:
        raise AccessDenied("no DeleteObject for you")

    async with world.broker() as running:
        partition = await running.create()
        produce(partition, 60)
        tier = await running.tiered(partition)
        with monkeypatch.context() as patched:
            patched.setattr(world.objects, "delete", denied)
            assert await running.tiering.offload.commit_log_start(partition, 50) is ErrorCode.NONE
            tier.next_check_ms = 0
            await until(lambda: running.tiering.counters.total("delete_errors") > 0)
            produce(partition, 60, first=60)
            await running.tiered(partition)
            assert tier.head.removed_end > 0
            waiting = tier.sweeps.waiting.objects
            assert waiting > 0
        assert len(await objects(world, partition)) == len(tier.head.tail) + waiting
        tier.sweeps.next_ms = tier.next_check_ms = 0
        await until(lambda: tier.sweeps.waiting.objects == 0)
        assert len(await objects(world, partition)) == len(tier.head.tail)


async def test_orphans_of_a_long_outage_are_bounded_and_found_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tierlog.broker.offload.work.ORPHANS_MAX", 1)
    async with world.broker() as running:
        partition = await running.create()
        tier = partition.remote
        await until(lambda: bool(tier and tier.is_loaded))
        world.objects.faults = Faults(applied_but_timed_out=1.0)
        produce(partition, 30)
        await until(lambda: running.tiering.counters.total("copy_errors") >= 4)
        left = len(await objects(world, partition))
        assert left >= 4
        world.objects.faults = Faults()
        tier = await running.tiered(partition)
        await until(lambda: tier.sweeps.done_count > 0)
        done_before = tier.sweeps.done_count
        tier.sweeps.next_ms = 0
        assert len(tier.attempts) <= left
        produce(partition, 30, first=30)  # a later write of the head makes sure that they stay uncommitted
        await running.tiered(partition)
        tier.next_check_ms = 0
        await until(lambda: tier.sweeps.done_count > done_before and len(tier.attempts) == 0)
        known = {tier.keys.segment(entry) for entry in tier.catalog}
        assert set(await objects(world, partition)) == known


async def test_purging_goes_on_after_an_outage_and_beside_a_broken_marker(world: World) -> None:
    async with world.broker() as running:
        broken, other = await running.create("broken"), await running.create("other")
        for partition in (broken, other):
            produce(partition, 30)
            await running.tiered(partition)
        tier = broken.remote
        assert tier is not None
        key = deletion_marker(running.broker.registration.cluster_id, broken.topic_id)
        await world.objects.put(key, b"{", size_bytes=1)
        world.objects.outage = Unavailable
        admin, node_id = running.broker.services.admin, running.broker.config.node_id
        with capture_logs() as logs:
            for partition in (broken, other):
                (result,) = await admin.delete_topics([partition.topic_id])
                assert result.error is ErrorCode.NONE
                await admin.confirm_topic_dropped(partition.topic_id, node_id)

            def complaints() -> list[str]:
                event = "purging deleted topics will be tried again"
                return [str(line["kind"]) for line in logs if line["event"] == event]

            await until(lambda: complaints() == ["Unavailable"])
            world.objects.outage = None
            await until(lambda: "CorruptObject" in complaints())
            deleting = running.broker.feed.image.deleting_topics
            await until(lambda: [topic.topic_id for topic in deleting()] == [broken.topic_id])
        await world.objects.delete([key])
        await until(lambda: not list(running.broker.feed.image.deleting_topics()))
        assert not await objects(world, broken)
