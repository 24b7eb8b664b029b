"""When copies are made: sealed segments that wait (KIP-1241), and active ones that are sealed to be copied."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.offload.brokers import World, produce, until
from tests.unit.offload.test_holes import alter
from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.views.metrics import remote_row

BY_SIZE = {
    "remote_copy_lag_ms": "-1",
    "local_retention_ms": "-1",
    "remote_copy_lag_bytes": "50000",
    "local_retention_bytes": "-1",
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


async def idle(tier: PartitionTier) -> None:
    await until(lambda: tier.is_loaded and tier.next_try_ms > 0 and tier.job is None)


async def test_hot_segments_stay_and_a_change_of_the_config_copies_them(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create(**BY_SIZE)
        produce(partition, 60)
        tier = partition.remote
        assert isinstance(tier, PartitionTier)
        running.tiering.offload.wake(partition)
        await until(lambda: tier.end_offset > 0)
        await idle(tier)
        segments = partition.log.sealed_segments()
        held = [s.size_bytes for s in segments if s.end_offset > tier.end_offset]
        assert held
        newer_bytes = sum(held) + partition.log.segments.active.size_bytes
        assert newer_bytes - held[0] < 50_000 <= newer_bytes
        await alter(running, **{"remote.copy.lag.bytes": "0"})
        await until(lambda: tier.end_offset == partition.log.active_base_offset)


async def test_a_disk_that_is_short_of_room_ends_the_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.broker() as running:
        partition = await running.create(**BY_SIZE | {"remote_copy_lag_bytes": "100000000"})
        produce(partition, 60)
        tier = partition.remote
        assert isinstance(tier, PartitionTier)
        await idle(tier)
        assert tier.end_offset == 0
        monkeypatch.setattr(LogDir, "wanted_bytes", 1)
        running.tiering.offload.wake(partition)
        await until(lambda: tier.end_offset == partition.log.active_base_offset)


async def test_records_are_sealed_and_copied_within_the_stated_delay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tierlog.broker.offload.sealing.TICK_S", 0.01)
    async with world.broker() as running:
        partition = await running.create(**{"tierlog.remote.copy.max.delay.ms": "1000"})
        other = await running.create("other")
        now_ms = 0
        running.tiering.sealing._now_ms = lambda: now_ms
        for each in (partition, other):
            produce(each, 3, first=1)  # nothing rolls
        tier = partition.remote
        assert isinstance(tier, PartitionTier)
        await until(lambda: tier.exposed_since_ms == 0)
        row = remote_row(partition)
        assert row is not None
        assert row.exposed_ms > 0
        now_ms = 999
        await asyncio.sleep(0.05)
        assert partition.log.active_base_offset == 0
        now_ms = 1_000
        await until(lambda: tier.end_offset == partition.log.log_end_offset)
        await until(lambda: tier.exposed_since_ms is None)
        assert partition.log.active_base_offset == 6
        assert other.log.active_base_offset == 0
        assert remote_row(partition) == row._replace(
            size_bytes=tier.size_bytes, segment_count=1, exposed_ms=0
        )
