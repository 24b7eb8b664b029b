"""A backlog of copies holds up nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.offload.brokers import World, produce, until
from tiering.copying.port import ClassOf, Target
from tiering.copying.source import SegmentSource
from tiering.model import SegmentEntry
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.offload.tier import PartitionTier
from tierlog.errors import ErrorCode


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


async def test_deletes_and_heads_wait_for_no_turn_to_copy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All turns are taken, by copies that do not end; the partition itself has segments to copy as well."""
    async with world.broker(tierlog_upload_concurrency="1") as running:
        partition = await running.create("busy")
        produce(partition, 60)
        tier = await running.tiered(partition)
        mover, gate = running.tiering.mover, asyncio.Event()
        real, copying = mover.copy, list[str]()

        async def copy(source: SegmentSource, target: Target, class_of: ClassOf) -> SegmentEntry:
            copying.append(str(target.keys))
            await gate.wait()
            return await real(source, target, class_of)

        monkeypatch.setattr(mover, "copy", copy)
        others = [await running.create(name) for name in ("a", "b", "c")]
        for other in others:
            produce(other, 60)
            running.tiering.offload.wake(other)
        await until(lambda: len(copying) == 1)
        produce(partition, 60, first=60)
        await until(lambda: running.tiering.work.awaits_copy_turn(tier) and tier.job is None)
        tier.next_try_ms = 0
        assert not running.tiering.offload._is_due(tier, wall_clock_ms())  # no plan is made in vain
        end = tier.end_offset
        assert await running.broker.replicas.advance_log_start(partition, end) is ErrorCode.NONE
        tier.next_check_ms = tier.next_try_ms = 0
        await until(lambda: tier.head.removed_end == end)
        tier.head_copied_ms = tier.next_check_ms = tier.next_try_ms = 0
        await until(lambda: tier.head_copied_sequence == tier.head.sequence)
        assert [info.key for info in await world.objects.inner.list(tier.keys.segments_prefix)] == []
        assert len(copying) == 1
        gate.set()
        for each in (partition, *others):
            await running.tiered(each)


async def test_what_frees_a_full_disk_is_copied_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.broker(tierlog_upload_concurrency="1") as running:
        first, small, large = [await running.create(name) for name in ("first", "small", "large")]
        mover, gate = running.tiering.mover, asyncio.Event()
        real, copied = mover.copy, list[bytes]()

        async def copy(source: SegmentSource, target: Target, class_of: ClassOf) -> SegmentEntry:
            copied.append(target.keys.topic_id)
            await gate.wait()
            return await real(source, target, class_of)

        monkeypatch.setattr(mover, "copy", copy)
        monkeypatch.setattr(LogDir, "wanted_bytes", 1)
        waiting = running.tiering.work._copy_turns._waiting
        for partition, count in ((first, 11), (small, 21), (large, 61)):
            produce(partition, count)
            tier = partition.remote
            assert isinstance(tier, PartitionTier)
            tier.next_try_ms = 0
            await until(lambda tier=tier: tier in waiting or copied == [tier.keys.topic_id])  # type: ignore[misc]
        gate.set()
        for partition in (first, small, large):
            await running.tiered(partition)
        assert copied[0] == first.topic_id
        assert copied[1] == large.topic_id
