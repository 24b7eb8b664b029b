"""Topics to which nothing is written any more: the active segment expires as well, whatever kind of topic it is; one date in
the future keeps nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.offload.brokers import Running, World, until
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.views.storage import future_dated
from tierlog.errors import ErrorCode
from tierlog.records.records import Record, build_batch

DAY_MS = 86_400_000
OLD = {"retention_ms": "3600000", "local_retention_bytes": "-2"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def write(partition: Partition, timestamp_ms: int, count: int = 3) -> None:
    for _ in range(count):
        batch = build_batch([Record(b"k", b"v" * 100, timestamp_ms)])
        assert partition.append(memoryview(batch), False, wall_clock_ms()).error is ErrorCode.NONE


async def written(running: Running, partition: Partition, timestamp_ms: int, count: int = 3) -> None:
    write(partition, timestamp_ms, count)
    await until(lambda: partition.high_watermark == partition.log.log_end_offset)


async def retained(running: Running, partition: Partition) -> None:
    """One round of all that is done by time."""
    await running.broker.housekeeping.retain()
    tier = partition.remote
    if tier is not None:
        await until(lambda: tier.end_offset == partition.log.active_base_offset)
        running.tiering.offload.on_reconfigured(partition)
        running.tiering.offload.wake(partition)


@pytest.mark.parametrize(
    "configs",
    [
        {"remote_storage_enable": "false"},
        {"remote_storage_enable": "false", "cleanup_policy": "compact,delete"},
        {},
        {"local_retention_ms": "1000"},
        {"remote_log_copy_disable": "true"},
        {"retention_ms": "-1", "retention_bytes": "0"},
    ],
    ids=["plain", "compacted too", "tiered", "short local retention", "no copies", "by size"],
)
async def test_the_last_segment_of_an_idle_topic_expires(world: World, configs: dict[str, str]) -> None:
    async with world.broker() as running:
        partition = await running.create(**(OLD | configs))
        await written(running, partition, wall_clock_ms() - DAY_MS)
        await running.broker.housekeeping.retain()
        assert partition.log.active_base_offset == 3
        tier = partition.remote
        if tier is not None and "remote_log_copy_disable" not in configs:
            await until(lambda: tier.end_offset == 3)
        if tier is not None:
            running.tiering.offload.on_reconfigured(partition)
            running.tiering.offload.wake(partition)
            await until(lambda: partition.log_start_offset == 3)
            await running.broker.housekeeping.retain()
        assert (partition.log_start_offset, partition.log.segments.first.base_offset) == (3, 3)
        assert partition.log.size_bytes == 0


async def test_what_is_not_copied_stays_and_young_segments_are_not_rolled(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create(**(OLD | {"local_retention_ms": "1000"}))
        await written(running, partition, wall_clock_ms())
        await running.broker.housekeeping.retain()
        assert partition.log.active_base_offset == 0
        running.tiering.offload.is_bucket_ours = False
        partition.log.roll(wall_clock_ms())
        await written(running, partition, wall_clock_ms() - DAY_MS)
        for segment in partition.log.segments:
            segment.max_timestamp = wall_clock_ms() - DAY_MS
        for _ in range(3):
            await running.broker.housekeeping.retain()
        assert (partition.log_start_offset, partition.log.segments.first.base_offset) == (0, 0)
        assert partition.log.segment_count == 3  # rolled once, not at each turn


async def test_commits_of_the_tier_do_not_roll(world: World) -> None:
    """With a local retention of nothing each commit would lead to the next roll."""
    async with world.broker() as running:
        partition = await running.create(local_retention_bytes="0")
        await written(running, partition, wall_clock_ms())
        partition.log.roll(wall_clock_ms())
        await written(running, partition, wall_clock_ms())
        await running.tiered(partition)
        assert partition.log.active_base_offset == 3


@pytest.mark.parametrize("is_tiered", [False, True])
async def test_a_date_in_the_future_keeps_nothing(world: World, is_tiered: bool) -> None:
    future_ms = wall_clock_ms() + 50 * DAY_MS
    async with world.broker() as running:
        configs = OLD | {"remote_storage_enable": str(is_tiered).lower()}
        partition = await running.create(message_timestamp_after_max_ms="9223372036854775807", **configs)
        if is_tiered:  # what was copied long ago
            running.tiering.mover._here._clock_ms = lambda: wall_clock_ms() - DAY_MS
        await written(running, partition, future_ms)
        partition.log.roll(wall_clock_ms())
        await written(running, partition, wall_clock_ms() - DAY_MS)
        partition.log.roll(wall_clock_ms())
        await written(running, partition, wall_clock_ms())
        # The tier's retention may have been here already.
        assert future_dated(partition, wall_clock_ms())["local"] == 1 or (
            is_tiered and partition.log_start_offset > 0
        )
        if is_tiered:
            running.tiering.offload.wake(partition)
            await until(lambda: partition.log_start_offset == 6)
        else:
            await running.broker.housekeeping.retain()
            assert partition.log.segments.first.base_offset == 0  # it was written just now
            os.utime(partition.log.segments.first.path(".log"), (wall_clock_ms() / 1000 - 86_400,) * 2)
        await running.broker.housekeeping.retain()
        assert partition.log.segments.first.base_offset == 6


@pytest.mark.parametrize(
    "local",
    [
        {"local_retention_ms": "1000", "local_retention_bytes": "-1"},
        {"local_retention_ms": "1000", "local_retention_bytes": "-2"},
        {"local_retention_ms": "-1", "local_retention_bytes": "0"},
        {"local_retention_ms": "-2", "local_retention_bytes": "0"},
    ],
    ids=["time", "time, size as in all", "size", "size, time as in all"],
)
async def test_local_retention_alone_takes_an_idle_topic_off_the_disk(
    world: World, local: dict[str, str]
) -> None:
    """It is kept for ever in all, so what is on the disk last is rolled, copied, and read from the tier."""
    async with world.broker(log_cleaner_enable="false") as running:
        partition = await running.create(retention_bytes="-1", **local)
        young = partition.config.local_retention_ms == 1000
        await written(running, partition, wall_clock_ms())
        if young:
            await running.broker.housekeeping.retain()
            assert partition.log.active_base_offset == 0
            for segment in partition.log.segments:
                segment.max_timestamp = wall_clock_ms() - DAY_MS
        place = partition.log.locate(0, 100_000, 3)
        assert place is not None
        before = partition.log.read(place)
        await running.broker.housekeeping.retain()
        assert partition.log.active_base_offset == 3
        await running.tiered(partition)
        await until(lambda: partition.log.local_log_start_offset == 3)
        assert (partition.log_start_offset, partition.log.size_bytes) == (0, 0)
        assert await running.read_all(partition, 0) == before
