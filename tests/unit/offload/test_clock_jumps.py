"""A broker whose clock jumps years ahead and back removes nothing that it should not, here or in the object store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.offload.brokers import Running, World, until
from tests.unit.offload.test_idle_topics import write
from tierlog.broker.clock import HOLD_MS, uptime_ms, wall_clock_ms
from tierlog.broker.replicas.partition import Partition

YEAR_MS = 365 * 86_400_000
CONFIGS = {"retention_ms": "3600000", "local_retention_bytes": "-2", "segment_ms": "3600000"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def set_ahead(running: Running, ahead_ms: int, passed_ms: int = 0) -> None:
    clock = running.broker.removal_clock
    clock._wall_ms = lambda: wall_clock_ms() + ahead_ms + passed_ms
    clock._passed_ms = lambda: uptime_ms() + passed_ms


async def looked_at(running: Running, partition: Partition) -> None:
    """Housekeeping and the tier have each had their look at the partition."""
    await running.broker.housekeeping.retain()
    if partition.remote is not None:
        tier = await running.tiered(partition)
        steps = []
        real = running.tiering.work.step

        async def step(of: object) -> bool:
            done = await real(of)  # type: ignore[arg-type]
            steps.append(of)
            return done

        running.tiering.work.step = step  # type: ignore[method-assign,assignment]
        running.tiering.offload.on_reconfigured(partition)
        running.tiering.offload.wake(partition)
        await until(lambda: tier in steps)
        running.tiering.work.step = real  # type: ignore[method-assign]


@pytest.mark.parametrize("is_tiered", [False, True], ids=["plain", "tiered"])
async def test_years_ahead_and_back(world: World, is_tiered: bool) -> None:
    async with world.broker() as running:
        partition = await running.create(**CONFIGS, remote_storage_enable=str(is_tiered).lower())
        for _ in range(3):
            write(partition, wall_clock_ms())
            partition.log.roll(wall_clock_ms())
        write(partition, wall_clock_ms())
        await until(lambda: partition.high_watermark == partition.log.log_end_offset)
        await looked_at(running, partition)
        held = partition.log.segment_count

        set_ahead(running, 5 * YEAR_MS)
        await looked_at(running, partition)
        assert (partition.log_start_offset, partition.log.segment_count) == (0, held)
        set_ahead(running, 0)
        await looked_at(running, partition)
        assert (partition.log_start_offset, partition.log.segments.first.base_offset) == (0, 0)

        # A clock that stays ahead is right in the end: so all of this could have been removed.
        set_ahead(running, 5 * YEAR_MS)
        await looked_at(running, partition)
        set_ahead(running, 5 * YEAR_MS, HOLD_MS)
        await looked_at(running, partition)
        await until(lambda: partition.log_start_offset >= 9)


async def test_a_segment_of_a_clock_that_was_ahead_is_rolled_in_time(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create(**CONFIGS, remote_storage_enable="false")
        partition.log.segments.active.created_ms = wall_clock_ms() + 5 * YEAR_MS
        write(partition, wall_clock_ms())
        now_ms = wall_clock_ms()
        assert not partition.log.roll_if_due(now_ms)
        assert partition.log.roll_if_due(now_ms + 3_600_001)


async def test_a_segment_that_was_written_by_a_clock_that_was_ahead_ages_from_then_on(world: World) -> None:
    future_ms = wall_clock_ms() + 5 * YEAR_MS
    async with world.broker() as running:
        configs = {
            **CONFIGS,
            "remote_storage_enable": "false",
            "message_timestamp_after_max_ms": str(2**63 - 1),
        }
        partition = await running.create(**configs)
        write(partition, future_ms)
        partition.log.roll(future_ms)
        await until(lambda: partition.high_watermark == partition.log.log_end_offset)
        first = partition.log.segments.first
        first.created_ms = future_ms
        os.utime(first.path(".log"), (future_ms / 1_000,) * 2)
        for passed_ms, base in ((0, 0), (3_500_000, 0), (3_700_000, 3)):
            set_ahead(running, 0, passed_ms)
            await running.broker.housekeeping.retain()
            assert partition.log.segments.first.base_offset == base, passed_ms
