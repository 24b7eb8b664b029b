"""A local segment whose bytes went bad: repaired from another replica, or set aside; the rest is copied either way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.broker.test_replication import Cluster, cluster
from tests.unit.offload.brokers import Running, World, next_offset, produce, until
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.fetch.remote_port import RemoteAsk
from tierlog.broker.offload.mending import Mending
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.views.storage import peculiar
from tierlog.log.files.names import LOG
from tierlog.records.batch import walk_whole
from tierlog.telemetry.tier_counters import TopicTierCounters


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def rot(partition: Partition, number: int, at: int = 100) -> Path:
    path = partition.log.segments[number].path(LOG)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("at", [0, 8, 16, 20, 100, 2_200, 5_000, -1])
async def test_the_only_replica_sets_it_aside_and_the_rest_goes_on(world: World, at: int) -> None:
    async with world.broker() as running:
        partition = await running.create()
        running.tiering.offload.is_bucket_ours = False
        written = produce(partition, 50)
        path = rot(partition, 1, at)
        bad = path.read_bytes()
        running.tiering.offload.is_bucket_ours = True
        running.tiering.offload.wake(partition)
        tier = await running.tiered(partition)
        await until(lambda: partition.log.local_log_start_offset == tier.end_offset)
        got = await running.read_all(partition, 0)
        batches = [written[a : a + header.size_bytes] for a, header in walk_whole(written)]
        read = [got[a : a + header.size_bytes] for a, header in walk_whole(got)]
        assert set(read) < set(batches)
        assert len(read) == len(batches) - 1
        (kept,) = partition.log.directory.glob("*.corrupt")
        assert kept.read_bytes() == bad
        assert running.tiering.counters.total("segments_set_aside") == 1
        assert peculiar(partition, wall_clock_ms())["set_aside"] == {"files": 1, "bytes": len(bad)}
        assert [e.base_offset for e in tier.head.tail][1:] == [e.end_offset for e in tier.head.tail][:-1]


async def test_a_segment_that_is_bad_all_over_is_a_hole(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        running.tiering.offload.is_bucket_ours = False
        produce(partition, 50)
        path = partition.log.segments[1].path(LOG)
        path.write_bytes(bytes(path.stat().st_size))
        running.tiering.offload.is_bucket_ours = True
        running.tiering.offload.wake(partition)
        tier = await running.tiered(partition)
        assert (tier.head.tail[0].end_offset, tier.head.tail[1].base_offset) == (20, 20)
        assert tier.head.tail[1].end_offset == 60


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path, 2) as made:
        await made.create(min_insync_replicas="2")
        yield made


class FakeTier:
    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.counters = TopicTierCounters()
        partition.remote = self  # type: ignore[assignment]


async def test_another_replica_repairs_it(pair: Cluster) -> None:
    leader_id = pair.leader_id
    assert leader_id is not None
    leader, other = pair.brokers[leader_id], pair.brokers[3 - leader_id]
    partition = pair.led
    produce(partition, 40)
    await until(pair.are_alike)
    await until(lambda: all(f.high_watermark == 80 for f in pair.followers))
    image = leader.feed.image
    tier = FakeTier(partition)
    mending = Mending(
        leader_id, "PLAINTEXT", 100_000_000, lambda: leader.feed.image, leader.replicas, wall_clock_ms
    )
    path = partition.log.segments[1].path(LOG)
    good = path.read_bytes()
    end_offset = partition.log.segments[1].end_offset
    rot(partition, 1)
    found = image.brokers[3 - leader_id]
    try:
        assert await mending.mend(as_tier(tier), end_offset, "rot")
        assert path.read_bytes() == good
        assert (tier.counters.segments_repaired, tier.counters.segments_set_aside) == (1, 0)
        assert not list(partition.log.directory.glob("*.corrupt"))
        # Nobody answers: nothing is given up.
        rot(partition, 1)
        mending._listener = "nowhere"
        assert not await mending.mend(as_tier(tier), end_offset, "rot")
        assert partition.log.segments[1].path(LOG).stat().st_size == len(good)
        assert not partition.log.removals.are_held
        # The other one has it no better.
        mending._listener = "PLAINTEXT"
        (follower,) = pair.followers
        rot(follower, 0, 30_000)
        assert await mending.mend(as_tier(tier), end_offset, "rot")
        assert tier.counters.segments_set_aside == 1
    finally:
        partition.remote = None
    assert found.registration is not None
    assert other.config.node_id == 3 - leader_id


def as_tier(fake: FakeTier) -> PartitionTier:
    return fake  # type: ignore[return-value]


@pytest.mark.parametrize("is_damaged_there_too", [False, True])
async def test_a_copy_that_meets_damage_repairs_it_from_a_replica_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_damaged_there_too: bool
) -> None:
    """The whole way: the copy notices, the other broker is asked over its socket, and the segment is copied."""
    monkeypatch.setattr("tierlog.broker.offload.driver.TICK_S", 0.01)
    tier_configs = {
        "remote_log_storage_system_enable": "true",
        "tierlog_object_store": f"dir:{tmp_path}/objects",
    }
    async with cluster(tmp_path, 2, **tier_configs) as made:
        topic = {"remote_storage_enable": "true", "local_retention_bytes": "-1", "retention_ms": "-1"}
        await made.create(min_insync_replicas="2", **topic)
        leader_id = made.leader_id
        assert leader_id is not None
        one = Running(made.brokers[leader_id])
        one.tiering.offload.is_bucket_ours = False
        partition, (follower,) = made.led, made.followers
        written = produce(partition, 40)
        await until(made.are_alike)
        await until(lambda: follower.high_watermark == 80)
        rot(partition, 1)
        if is_damaged_there_too:
            rot(follower, 0, 30_000)  # in the same batches: followers roll elsewhere
        one.tiering.offload.is_bucket_ours = True
        one.tiering.offload.wake(partition)
        tier = await one.tiered(partition)
        assert one.tiering.counters.total("segments_repaired") == (not is_damaged_there_too)
        assert one.tiering.counters.total("segments_set_aside") == is_damaged_there_too
        got, offset = b"", 0
        while offset < tier.end_offset:
            read = await one.tiering.reads.read(RemoteAsk(partition, offset, 10_000, True), 2**40)
            assert isinstance(read.records, list)
            got += b"".join(read.records)
            offset = next_offset(got)
        assert written.startswith(got) is not is_damaged_there_too
