"""A topic that was compacted becomes a tiered one: holes at every place, read back as they were."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.offload.brokers import Running, World, next_offset, until
from tierlog.broker.fetch.remote_port import RemoteAsk
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import ErrorCode
from tierlog.log.compaction.output import CleanedSegment
from tierlog.metadata.control.configs import ConfigAlteration, ConfigOp, ConfigOperation
from tierlog.records.batch import parse_header, walk_whole
from tierlog.records.records import Record, build_batch

BECOMES_TIERED = {"cleanup.policy": "delete", "remote.storage.enable": "true", "retention.ms": "-1"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


async def alter(running: Running, **configs: str) -> None:
    operations = [ConfigOperation(name, ConfigOp.SET, value) for name, value in configs.items()]
    (result,) = await running.broker.services.admin.alter_configs(
        [ConfigAlteration("topic", "t", operations)]
    )
    assert result.error is ErrorCode.NONE, result


def batches_of(data: bytes) -> list[bytes]:
    return [data[at : at + header.size_bytes] for at, header in walk_whole(data)]


def produce(partition: Partition, count: int) -> None:
    for i in range(count):
        batch = build_batch([Record(b"k", bytes([i]) * 100, 1_000 + i), Record(b"k", b"", 1_000 + i)])
        assert partition.append(memoryview(batch), False, 1_000).error is ErrorCode.NONE


def compact(partition: Partition) -> None:
    """Five sealed segments of three batches: whole; without its start; without its end; empty; only its middle."""
    log = partition.log
    for _ in range(5):
        produce(partition, 3)
        log.roll(1_000)
    for segment, kept in zip(log.sealed_segments(), ((0, 1, 2), (1, 2), (0,), (), (1,)), strict=True):
        batches = batches_of(segment.log_path.read_bytes())
        cleaned = CleanedSegment(log.filesystem, log.directory, segment.base_offset, 4096)
        cleaned.old_base_offsets = [segment.base_offset]
        for number in kept:
            cleaned.append(memoryview(batches[number]))
        cleaned.finish()
        log.replace_segments([cleaned], 1_000)


async def test_a_log_with_holes_is_tiered_and_read_back(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create(
            cleanup_policy="compact", remote_storage_enable="false", local_retention_bytes="-2"
        )
        compact(partition)
        log = partition.log
        whole = await running.read_all(partition, 0)
        expected = {
            offset: parse_header(
                log.read(log.locate(offset, 1, log.log_end_offset) or never()), 0
            ).base_offset
            for offset in range(28)
        }
        times = {time: log.offset_for_timestamp(time) for time in range(999, 1_004)}
        largest = log.max_timestamp()
        await alter(running, **BECOMES_TIERED)
        await until(lambda: partition.remote is not None)
        tier = await running.tiered(partition)
        produce(partition, 1)
        await until(lambda: partition.last_stable_offset == 32)
        tail = log.read(log.locate(30, 10_000, 32) or never())
        bounds = [(entry.base_offset, entry.end_offset) for entry in tier.head.tail]
        assert bounds == [(0, 6), (6, 12), (12, 18), (18, 30)]
        running.broker.replicas.unlink_later(log.delete_segments_below(30, 0))
        assert await running.read_all(partition, 0) == whole + tail
        deadline = asyncio.get_running_loop().time() + 5
        reads = running.tiering.reads
        for offset, base in expected.items():
            read = await reads.read(RemoteAsk(partition, offset, 1, True), deadline)
            assert (read.error, parse_header(b"".join(read.records), 0).base_offset) == (0, base)  # type: ignore[arg-type]
        for offset in (28, 29):  # behind the last remote batch
            read = await reads.read(RemoteAsk(partition, offset, 1, True), deadline)
            assert (read.error, read.records) == (ErrorCode.NONE, [tail])
            assert reads.read_now(RemoteAsk(partition, offset, 1, True)) is None
        for time, found in times.items():
            assert await reads.offset_for_timestamp(partition, time, deadline) == found
        assert await reads.max_timestamp(partition, deadline) == largest
    async with world.broker() as running:
        partition = await running.leading()
        assert partition.log.local_log_start_offset == 30
        assert await running.read_all(partition, 0) == whole + tail


async def test_a_start_in_a_hole_is_no_obstacle(world: World) -> None:
    """DeleteRecords before anything is copied: the tier begins in a hole, at the end of a segment and in an empty one."""
    for target, bounds in ((16, [(16, 30)]), (20, [(20, 30)])):
        async with world.broker() as running:
            name = f"t{target}"
            partition = await running.create(name)
            world.objects.outage = None
            await running.tiered(partition)
            running.tiering.offload.is_bucket_ours = False
            compact(partition)
            assert await running.broker.replicas.advance_log_start(partition, target) is ErrorCode.NONE
            running.tiering.offload.is_bucket_ours = True
            running.tiering.offload.wake(partition)
            tier = await running.tiered(partition)
            assert [(entry.base_offset, entry.end_offset) for entry in tier.head.tail] == bounds
            got = await running.read_all(partition, target)
            assert next_offset(got) == 28


async def test_epochs_that_compaction_has_emptied_are_no_other_log(world: World) -> None:
    """The last epoch below the tiered end has no record any more; the log is not begun anew for that."""
    for start in range(2):
        async with world.broker() as running:
            if start == 0:
                partition = await running.create(
                    cleanup_policy="compact", remote_storage_enable="false", local_retention_bytes="-2"
                )
                compact(partition)
                partition.log.epochs.truncate_from_end(25)
                partition.log.epochs.assign(partition.leader_epoch + 3, 29)
                await alter(running, **BECOMES_TIERED)
                await until(lambda: partition.remote is not None)  # noqa: B023
                await running.tiered(partition)
            else:
                partition = await running.leading()
            assert partition.log.segments.first.base_offset == 0
            assert not list(partition.log.directory.glob("set-aside*"))


def never() -> object:  # type: ignore[misc]
    raise AssertionError("nothing there")
