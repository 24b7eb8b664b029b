"""The way of a segment: sealed, copied, committed, deleted locally, read back; and all that can go wrong on it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.unit.offload.brokers import World, produce, until
from tiering.errors import AccessDenied, ForeignBucket, Throttled, Unavailable
from tiering.keys import CLUSTER_MARKER
from tierlog.broker.fetch.remote_port import RemoteAsk
from tierlog.broker.offload.bucket import claim_bucket
from tierlog.broker.offload.heads import Fenced, HeadMoved
from tierlog.broker.replicas.partition import Offline, Partition
from tierlog.errors import ErrorCode, UnknownOutcome
from tierlog.metadata.keys import tier_head
from tierlog.metadata.transactions import Txn, TxnResult


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


async def test_the_whole_way_and_a_restart(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        written = produce(partition, 100)
        tier = await running.tiered(partition)
        await until(lambda: partition.log.local_log_start_offset == tier.end_offset)
        assert partition.log_start_offset == 0
        assert tier.end_offset > 150
        assert await running.read_all(partition, 0) == written
    async with world.broker() as running:
        partition = await running.leading()
        more = produce(partition, 100, first=100)
        await running.tiered(partition)
        assert await running.read_all(partition, 0) == written + more


@pytest.mark.parametrize("error", [Unavailable, AccessDenied, Throttled])
async def test_a_store_that_is_down_stops_nothing_and_loses_nothing(
    world: World, error: type[Unavailable]
) -> None:
    async with world.broker() as running:
        partition = await running.create()
        world.objects.outage = error
        written = produce(partition, 50)
        tier = partition.remote
        assert tier is not None
        await until(lambda: running.tiering.counters.total("copy_errors") > 0)
        running.broker.housekeeping.retain_partition(partition)
        assert partition.log.local_log_start_offset == 0
        assert tier.end_offset == 0
        world.objects.outage = None
        await running.tiered(partition)
        world.objects.outage = error
        loop = asyncio.get_running_loop()
        read = await running.tiering.reads.read(RemoteAsk(partition, 0, 10_000, True), loop.time() + 0.02)
        assert (read.error, read.size_bytes) == (ErrorCode.NONE, 0)
        late = await running.tiering.reads.offset_for_timestamp(partition, 1_000, loop.time() + 0.02)
        assert late is ErrorCode.REQUEST_TIMED_OUT
        world.objects.outage = None
        assert await running.read_all(partition, 0) == written


async def test_a_missing_object_is_a_storage_error_of_its_partition(world: World) -> None:
    async with world.broker() as running:
        partition, other = await running.create("t"), await running.create("u")
        produce(partition, 30)
        written = produce(other, 30)
        tier = await running.tiered(partition)
        await running.tiered(other)
        world.objects.missing.add(tier.keys.segment(tier.head.tail[0]))
        deadline = asyncio.get_running_loop().time() + PATIENT_S
        read = await running.tiering.reads.read(RemoteAsk(partition, 0, 10_000, True), deadline)
        assert read.error is ErrorCode.KAFKA_STORAGE_ERROR
        assert running.tiering.counters.total("fetch_errors") == 1
        assert await running.read_all(other, 0) == written


async def test_what_is_ready_is_read_without_waiting(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        produce(partition, 30)
        await running.tiered(partition)
        reads = running.tiering.reads
        assert reads.read_now(RemoteAsk(partition, 0, 10_000, True)) is None
        waited = await reads.read(
            RemoteAsk(partition, 0, 10_000, True), asyncio.get_running_loop().time() + PATIENT_S
        )
        ready = reads.read_now(RemoteAsk(partition, 0, 10_000, True))
        assert ready is not None
        assert b"".join(ready.records) == b"".join(waited.records)  # type: ignore[arg-type]
        assert reads.read_now(RemoteAsk(partition, 10_000, 10_000, True)) is None


async def test_timestamps_are_the_same_before_and_after_local_deletion(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create(local_retention_bytes="-1")
        produce(partition, 60)
        tier = await running.tiered(partition)
        log = partition.log
        asked = [0, 1_000, 1_003, 1_250, 1_400, 1_503, 1_504, 1_505, 9_999]
        before = [log.offset_for_timestamp(timestamp) for timestamp in asked]
        largest = log.max_timestamp()
        running.broker.replicas.unlink_later(log.delete_segments_below(tier.end_offset, 0))
        deadline = asyncio.get_running_loop().time() + PATIENT_S
        reads = running.tiering.reads
        for timestamp, local in zip(asked, before, strict=True):
            remote = await reads.offset_for_timestamp(partition, timestamp, deadline)
            still = log.offset_for_timestamp(timestamp)
            assert not isinstance(remote, ErrorCode)
            found = [one for one in (remote, still) if one is not None]
            assert min(found, key=lambda one: one.offset, default=None) == local
        remote = await reads.max_timestamp(partition, deadline)
        still = log.max_timestamp()
        assert not isinstance(remote, ErrorCode)
        assert remote is not None
        assert (still if still is not None and still.timestamp > remote.timestamp else remote) == largest


async def test_delete_records_is_committed_before_it_is_seen_and_objects_go_after(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        produce(partition, 100)
        tier = await running.tiered(partition)
        first = tier.keys.segment(tier.head.tail[0])
        target = tier.head.tail[3].base_offset + 1
        assert await running.broker.replicas.advance_log_start(partition, target) is ErrorCode.NONE
        assert (partition.log_start_offset, tier.start_offset) == (target, target)
        running.tiering.offload.wake(partition)
        tier.next_check_ms = 0
        await until(lambda: tier.head.removed_end > 0)
        assert [info.key for info in await world.objects.list(tier.keys.segments_prefix)] == [
            tier.keys.segment(entry) for entry in tier.head.tail
        ]
        assert first not in [info.key for info in await world.objects.list("")]
        read = await running.tiering.reads.read(RemoteAsk(partition, 0, 10_000, True), 0)
        assert read.error is ErrorCode.OFFSET_OUT_OF_RANGE
    async with world.broker() as running:
        assert (await running.leading()).log_start_offset == target


async def test_delete_records_past_the_tiered_end(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        produce(partition, 30)
        tier = await running.tiered(partition)
        start = partition.high_watermark - 1
        assert start > tier.end_offset
        assert await running.broker.replicas.advance_log_start(partition, start) is ErrorCode.NONE
        assert (tier.start_offset, tier.end_offset) == (start, start)
        written = produce(partition, 60, first=30)
        await running.tiered(partition)
        got = await running.read_all(partition, start)
        assert got.endswith(written)


async def test_retention_bytes_over_the_total(world: World) -> None:
    async with world.broker() as running:
        limit = 100_000
        partition = await running.create(retention_bytes=str(limit))
        produce(partition, 200)
        tier = await running.tiered(partition)
        tier.next_check_ms = 0
        await until(lambda: partition.log_start_offset > 0)
        total = tier.size_bytes + partition.log.segments.active.size_bytes
        assert limit <= total < limit + tier.head.tail[-1].data_bytes
        assert partition.log_start_offset == tier.start_offset


async def test_many_segments_move_to_pages_and_back(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        written = produce(partition, 110, batches_per_segment=2)
        tier = await running.tiered(partition)
        assert tier.head.page_index is not None
        assert len(tier.head.tail) < 64
        assert await running.read_all(partition, 0) == written
    async with world.broker() as running:
        partition = await running.leading()
        assert await running.read_all(partition, 0) == written


async def test_a_lost_log_directory_begins_at_the_tiered_end(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        written = produce(partition, 60)
        end = (await running.tiered(partition)).end_offset
        epochs = [e for e in partition.log.epochs.entries if e.start_offset < end]
    shutil.rmtree(world.directory / "logs" / "t-0")
    async with world.broker() as running:
        partition = await running.leading()
        assert (partition.log.local_log_start_offset, partition.log.log_end_offset) == (end, end)
        assert [e for e in partition.log.epochs.entries if e.start_offset < end] == epochs
        more = produce(partition, 10, first=60)
        got = await running.read_all(partition, 0)
        assert got.endswith(more)
        assert written.startswith(got[: -len(more)])


async def test_a_log_that_is_behind_is_not_led_before_its_tier_can_be_read(world: World) -> None:
    async with world.broker() as running:
        produced = await running.create()
        produce(produced, 60)
        await running.tiered(produced)
        tiered_end = produced.log.active_base_offset
    shutil.rmtree(world.directory / "logs" / "t-0")
    world.objects.outage = Unavailable
    async with world.broker() as running:
        found = running.broker.replicas.by_name("t", 0)
        assert isinstance(found, Partition)
        assert found.leader is None
        assert found.append(memoryview(b""), True, 0).error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        world.objects.outage = None
        partition = await running.leading()
        assert partition.log.log_end_offset == partition.high_watermark == tiered_end


async def test_a_log_whose_tier_is_damaged_is_offline(world: World) -> None:
    async with world.broker() as running:
        produced = await running.create()
        produce(produced, 60)
        await running.tiered(produced)
    shutil.rmtree(world.directory / "logs" / "t-0")
    for info in await world.objects.list(""):
        if info.key.endswith(".seg"):
            await world.objects.delete([info.key])
    async with world.broker() as running:
        partition = running.broker.replicas.by_name("t", 0)
        assert isinstance(partition, Partition)
        assert partition.offline is Offline.STORAGE


async def test_a_foreign_bucket_is_refused_with_one_line(world: World) -> None:
    await claim_bucket(world.objects, "ours")
    await claim_bucket(world.objects, "ours")
    with pytest.raises(
        ForeignBucket, match=r"^the bucket belongs to cluster ours, this broker to cluster x$"
    ):
        await claim_bucket(world.objects, "x")


async def test_nothing_is_written_before_the_marker_was_checked(world: World) -> None:
    world.objects.outage = Unavailable
    async with world.broker() as running:
        partition = await running.create()
        produce(partition, 30)
        tier = partition.remote
        assert tier is not None
        await until(lambda: tier.is_loaded)
        world.objects.outage = None
        await running.tiered(partition)
        keys = [info.key for info in await world.objects.list("")]
        assert CLUSTER_MARKER in keys


async def test_an_unknown_outcome_is_read_again_and_never_copied_twice_into_the_head(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.broker() as running:
        partition = await running.create()
        store = running.broker.store
        real, fates = store.txn, [True, False, True]

        async def txn(txn: Txn) -> TxnResult:
            is_head = any(getattr(put, "key", "").startswith("/tier/") for put in txn.then)
            if is_head and fates:
                if fates.pop(0):
                    await real(txn)
                raise UnknownOutcome("no answer")
            return await real(txn)

        monkeypatch.setattr(store, "txn", txn)
        written = produce(partition, 60)
        tier = await running.tiered(partition)
        assert not fates
        assert await running.read_all(partition, 0) == written
        await until(lambda: tier.job is None and len(tier.attempts) == 0)
        named = {tier.keys.segment(entry) for entry in tier.head.tail}
        assert {info.key for info in await world.objects.list(tier.keys.segments_prefix)} == named


async def test_commits_are_fenced(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        produce(partition, 30)
        tier = await running.tiered(partition)
        await until(lambda: tier.job is None)
        heads, head = running.tiering.heads, tier.head.with_start(1, 1)
        where = (partition.topic_id, 0)
        with pytest.raises(Fenced):
            await heads.commit(*where, partition.leader_epoch - 1, head, tier.revision)
        with pytest.raises(HeadMoved):
            await heads.commit(*where, partition.leader_epoch, head, tier.revision - 1)
        heads._broker_epoch = lambda: 1
        with pytest.raises(Fenced, match="registration"):
            await heads.commit(*where, partition.leader_epoch, head, tier.revision)


async def test_orphans_of_older_leaders_are_swept(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        produce(partition, 30)
        tier = await running.tiered(partition)
        entry = tier.head.tail[0]
        orphan = tier.keys.segment(entry._replace(uuid=bytes(16)))
        await world.objects.put(orphan, b"x", size_bytes=1)
    async with world.broker() as running:
        await running.leading()
        await until(lambda: running.tiering.counters.total("orphans_deleted") == 1)
        assert orphan not in [info.key for info in await world.objects.list("")]


async def test_a_deleted_topic_leaves_nothing_but_its_marker(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        produce(partition, 60)
        tier = await running.tiered(partition)
        (result,) = await running.broker.services.admin.delete_topics([partition.topic_id])
        assert result.error is ErrorCode.NONE
        await running.broker.services.admin.confirm_topic_dropped(
            partition.topic_id, running.broker.config.node_id
        )
        await until(lambda: not list(running.broker.feed.image.deleting_topics()))
        left = [info.key for info in await world.objects.list("")]
        assert [key for key in left if key != CLUSTER_MARKER and "/deleted/" not in key] == []
        assert await running.broker.store.get(tier_head(tier.keys.topic_id, 0)) is None
