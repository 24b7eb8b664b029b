"""A broker's disk cache: entries of segments that are deleted or have another version go, others stay over restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.unit.offload.brokers import Running, World, next_offset, produce, until
from tiering.disk_cache.cache import DiskCache
from tiering.disk_cache.entries import CachedObject
from tierlog.broker.fetch.remote_port import RemoteAsk
from tierlog.broker.offload.reading.disk_cache import open_disk_cache
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition
from tierlog.cli.broker import embedded
from tierlog.errors import ErrorCode, UserError


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def configs(world: World, **more: str) -> dict[str, str]:
    return {
        "tierlog_remote_cache_dir": str(world.directory / "cache"),
        "tierlog_remote_cache_max_bytes": str(64 << 20),
        "remote_log_manager_task_interval_ms": "20",
        **more,
    }


def cache_of(running: Running) -> DiskCache:
    cache = running.tiering._disk_cache
    assert cache is not None
    return cache


async def use_all(running: Running, partition: Partition) -> None:
    """As a consumer does that takes what it is given, of the remote part."""
    offset, now_s = 0, asyncio.get_running_loop().time
    while offset < partition.log.local_log_start_offset:
        read = await running.tiering.reads.read(
            RemoteAsk(partition, offset, 10_000, True), now_s() + PATIENT_S
        )
        assert isinstance(read.records, list)
        offset = next_offset(b"".join(read.records))
        read.accept()


async def filled(running: Running, partition: Partition) -> tuple[PartitionTier, bytes]:
    """All segments are on the disk, with their footers."""
    written = produce(partition, 60)
    tier = await running.tiered(partition)
    await until(lambda: partition.log.local_log_start_offset == tier.end_offset)
    for _ in range(2):
        await use_all(running, partition)
    assert await running.read_all(partition, 0) == written
    await until(lambda: cache_of(running).entry_count == 2 * len(tier.catalog))
    return tier, written


async def test_what_is_deleted_goes_and_the_rest_is_there_after_a_restart(world: World) -> None:
    async with world.broker(**configs(world)) as running:
        partition = await running.create()
        tier, _ = await filled(running, partition)
        third = list(tier.catalog)[2].base_offset
        assert await running.broker.replicas.advance_log_start(partition, third) is ErrorCode.NONE
        await until(lambda: cache_of(running).entry_count == 2 * len(tier.catalog))
        rest = await running.read_all(partition, third)
    async with world.broker(**configs(world)) as running:
        partition = await running.leading()
        await running.tiered(partition)
        assert cache_of(running).entry_count == 2 * len(tier.catalog)
        assert await running.read_all(partition, third) == rest
        assert running.tiering.reader.stats.get_count == 0


async def test_another_version_of_an_object_is_fetched_anew(world: World) -> None:
    async with world.broker(**configs(world)) as running:
        partition = await running.create()
        tier, written = await filled(running, partition)
        gets = running.tiering.reader.stats.get_count
        old = [CachedObject.of(tier.keys, entry) for entry in tier.catalog]
        moved = [entry._replace(version_hash=entry.version_hash + 1) for entry in tier.catalog]
        await running.tiering.work.class_moves._commit(tier, moved)
        dead = running.tiering._dead_entries
        assert dead is not None
        assert not any(map(dead.may_be_read, old))
        assert all(dead.may_be_read(CachedObject.of(tier.keys, entry)) for entry in tier.catalog)
        await until(lambda: cache_of(running).entry_count == 0)
    async with world.broker(**configs(world)) as running:
        partition = await running.leading()
        await running.tiered(partition)
        assert await running.read_all(partition, 0) == written
        assert running.tiering.reader.stats.get_count >= len(moved)
    assert gets


async def test_what_no_replica_of_this_broker_holds_is_dead(world: World) -> None:
    async with world.broker(**configs(world)) as running:
        partition = await running.create()
        tier, _ = await filled(running, partition)
        first = CachedObject.of(tier.keys, next(iter(tier.catalog)))
        dead = running.tiering._dead_entries
        assert dead is not None
        other_topic = first._replace(keys=first.keys._replace(topic_id=bytes(16)))
        other_partition = first._replace(keys=first.keys._replace(partition=1))
        newer = first._replace(segment=first.segment._replace(base_offset=tier.end_offset, end_offset=2**40))
        assert [dead.may_be_read(each) for each in (first, newer, other_topic, other_partition)] == [
            True,
            True,
            False,
            False,
        ]


async def refusal(world: World, **more: str) -> str:
    pairs = [f"{name.replace('_', '.')}={value}" for name, value in configs(world, **more).items()]
    with pytest.raises(UserError) as refused:
        await open_disk_cache(embedded(world.directory, "127.0.0.1", 0, -1, pairs), "cluster")
    return str(refused.value)


async def test_a_start_refuses_a_directory_that_cannot_be(world: World) -> None:
    (world.directory / "file").touch()
    wrong = str(world.directory / "file" / "cache")
    said = await refusal(world, tierlog_remote_cache_dir=wrong)
    assert said == f"tierlog.remote.cache.dir={wrong}: {wrong}/broker-1: Not a directory"
    (world.directory / "logs").mkdir()
    inside = world.directory / "link"
    inside.symlink_to(world.directory / "logs")
    said = await refusal(world, tierlog_remote_cache_dir=str(inside))
    assert said.endswith(f"is in the log directory {world.directory}/logs; set another directory")
    said = await refusal(world, tierlog_remote_cache_max_bytes=str(1 << 60))
    assert "more than its disk has" in said
    assert said.endswith("set tierlog.remote.cache.max.bytes lower")


async def test_without_the_two_properties_there_is_none(world: World) -> None:
    async with world.broker() as running:
        assert running.tiering._disk_cache is None
    async with world.broker(**configs(world, tierlog_remote_cache_max_bytes="0")) as running:
        assert running.tiering._disk_cache is None
        assert not (world.directory / "cache").exists()
