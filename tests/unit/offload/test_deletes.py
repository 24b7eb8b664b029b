"""What a bucket that refuses deletes, a crash in the middle of one, and a lost page cost: their own range at most."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.patience import PATIENT_S
from tests.unit.offload.brokers import Running, World, produce, until
from tiering.errors import NotFound
from tiering.head_codec import encode_head
from tiering.model import TierHead
from tiering.pages import move_to_page
from tiering.planner import Policy
from tierlog.broker.fetch.remote_port import RemoteAsk
from tierlog.broker.offload.tier import PartitionTier
from tierlog.errors import ErrorCode, StoreUnavailable, UnknownOutcome
from tierlog.metadata.transactions import Txn, TxnResult


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def is_head(txn: Txn) -> bool:
    return any(getattr(put, "key", "").startswith("/tier/") for put in txn.then)


async def keys_of(world: World, suffix: str) -> list[str]:
    return [info.key for info in await world.objects.inner.list("") if info.key.endswith(suffix)]


async def test_a_crash_between_deleting_and_its_commit_leaves_a_tier_that_can_be_led(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.broker() as running:
        partition = await running.create()
        written = produce(partition, 110, batches_per_segment=2)
        tier = await running.tiered(partition)
        await until(lambda: tier.job is None)
        assert tier.head.page_index is not None
        target = tier.head.page_index.end_offset
        store = running.broker.store
        real, begun = store.txn, asyncio.Event()

        async def only_the_start(txn: Txn) -> TxnResult:
            if is_head(txn) and begun.is_set():
                raise StoreUnavailable("gone")
            if is_head(txn):
                begun.set()
            return await real(txn)

        monkeypatch.setattr(store, "txn", only_the_start)
        assert await running.broker.replicas.advance_log_start(partition, target) is ErrorCode.NONE
        tier.next_check_ms = 0
        counters = running.tiering.counters
        await until(lambda: tier.failures > 0 and counters.total("delete_requests") > 0)
    async with world.broker() as running:
        partition = await running.leading()
        again = partition.remote
        assert isinstance(again, PartitionTier)
        await until(lambda: again.is_loaded)
        got = await running.read_all(partition, target)
        assert got
        assert written.endswith(got)
        produce(partition, 10, first=110, batches_per_segment=2)
        await running.tiered(partition)
        again.next_check_ms = 0
        await until(lambda: again.head.removed_end == target)
        await until(lambda: again.job is None)
        named = {again.keys.segment(entry) for entry in again.head.tail}
        assert set(await keys_of(world, ".seg")) == named


async def test_a_copy_that_waits_behind_a_delete_records_is_not_deleted_while_its_commit_may_come(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.broker() as running:
        partition = await running.create(local_retention_bytes="-1")
        produce(partition, 30)
        tier = await running.tiered(partition)
        await until(lambda: tier.job is None)
        store, mover = running.broker.store, running.tiering.mover
        real_txn, real_copy = store.txn, mover.copy
        copied, late = asyncio.Event(), list[Txn]()

        async def copy(*args: object, **kwargs: object) -> object:
            entry = await real_copy(*args, **kwargs)  # type: ignore[arg-type]
            copied.set()
            return entry

        async def txn(txn: Txn) -> TxnResult:
            if is_head(txn) and copied.is_set() and len(late) < 2:
                late.append(txn)
                if len(late) == 2:  # the copy's: under way for a long time
                    monkeypatch.setattr(running.tiering.work, "step", lambda tier: asyncio.sleep(3600))
                    raise UnknownOutcome("no answer")
            return await real_txn(txn)

        monkeypatch.setattr(store, "txn", txn)
        monkeypatch.setattr(mover, "copy", copy)
        async with tier.turn:
            moving = asyncio.ensure_future(running.broker.replicas.advance_log_start(partition, 5))
            await until(lambda: bool(tier.turn._waiters))  # type: ignore[attr-defined]
            produce(partition, 11, first=30)
            running.tiering.offload.wake(partition)
            await copied.wait()
        assert await moving is ErrorCode.NONE
        await until(lambda: len(late) == 2 and not tier.is_loaded)
        (uuid,) = tier.attempts._by_uuid
        await running.tiering.work.load(tier)
        orphans = tier.attempts.settle(getattr(tier, "named", tier.catalog))
        assert orphans == ()
        assert (await real_txn(late[1])).ok  # it arrives
        await running.tiering.work.load(tier)
        assert tier.head.tail[-1].uuid == uuid
        assert tier.keys.segment(tier.head.tail[-1]) in await keys_of(world, ".seg")


async def test_a_commit_that_is_made_long_after_nobody_waits_for_it_is_found_by_a_sweep(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an idle partition: no other commit would meet it, and the bucket's copy of the head would stay the older one."""
    monkeypatch.setattr("tiering.sweeping.sweeps.AGAIN_MS", 1)
    quick = partial(Policy, head_copy_interval_ms=1)
    monkeypatch.setattr("tierlog.broker.offload.sources.Policy", quick)
    async with world.broker() as running:
        partition = await running.create()
        produce(partition, 30, batches_per_segment=2)
        tier = await running.tiered(partition)
        await until(lambda: tier.sweeps.done_count and tier.head_copied_sequence == tier.head.sequence)
        tier.sweeps.next_ms = 1 << 60
        real_txn, late = running.broker.store.txn, list[Txn]()

        async def txn(txn: Txn) -> TxnResult:
            if not is_head(txn):
                return await real_txn(txn)
            if late:
                raise StoreUnavailable("gone")
            late.append(txn)
            raise UnknownOutcome("no answer")

        monkeypatch.setattr(running.broker.store, "txn", txn)
        moved = await running.broker.replicas.advance_log_start(partition, 5)
        assert moved is ErrorCode.KAFKA_STORAGE_ERROR
        assert tier.sweeps.next_ms < 1 << 60  # a doubt
        monkeypatch.setattr(running.broker.store, "txn", real_txn)
        before = tier.head.sequence
        assert (await real_txn(late[0])).ok  # it arrives
        assert (tier.head.sequence, tier.head.start) == (before, 0)
        tier.sweeps.next_ms = tier.next_check_ms = 0
        await until(lambda: tier.head.start == 5 and partition.log.log_start_offset == 5)

        async def is_copied() -> bool:
            tier.next_check_ms = 0
            return tier.keys.head_copy(tier.head.sequence) in [
                info.key for info in await world.objects.inner.list("")
            ]

        async with asyncio.timeout(PATIENT_S):
            while not await is_copied():
                await asyncio.sleep(0.01)


def scraped(running: Running, name: str) -> float:
    (family,) = [each for each in running.broker.registry.families() if each.name == name]
    (sample,) = family.samples()
    return sample.value


async def test_a_bucket_that_deletes_nothing_takes_copies_and_holds_up_no_retention(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a head can name: it forgets what it cannot delete, and a sweep finds it once deletes work."""
    quick = partial(Policy, page_at_entries=6, tail_kept_entries=2, stale_grace_ms=0)
    monkeypatch.setattr("tierlog.broker.offload.sources.Policy", quick)
    monkeypatch.setattr("tiering.model.STALE_OBJECTS_MAX", 6)
    async with world.broker() as running:
        partition = await running.create()
        tier = partition.remote
        assert isinstance(tier, PartitionTier)
        world.objects.undeletable = lambda key: True

        async def removed(end: int) -> None:
            tier.next_check_ms = 0
            await until(lambda: tier.head.removed_end > end and tier.job is None)

        with capture_logs() as logs:
            for first in range(0, 120, 40):
                produce(partition, 40, first=first, batches_per_segment=1)
                await running.tiered(partition)
                start = partition.log.active_base_offset - 10
                assert await running.broker.replicas.advance_log_start(partition, start) is ErrorCode.NONE
                await removed(start - 10)
        event = "objects cannot be deleted: they stay until a later sweep, and all else goes on"
        assert [line["event"] for line in logs].count(event) == 1
        stands = await keys_of(world, ".seg")
        assert len(stands) > 100
        assert scraped(running, "tierlog_remote_undeleted_objects") >= len(stands) - len(tier.head.tail)
        assert scraped(running, "tierlog_remote_undeleted_bytes") > 100_000
        world.objects.undeletable = lambda key: key == stands[3]
        tier.sweeps.next_ms = tier.next_check_ms = 0
        await until(lambda: tier.sweeps.waiting.objects == 1 and tier.job is None)
        named = {tier.keys.segment(entry) for entry in tier.catalog}
        assert set(await keys_of(world, ".seg")) == named | {stands[3]}
        assert scraped(running, "tierlog_remote_undeleted_objects") == 1
        world.objects.undeletable = lambda key: False
        tier.sweeps.next_ms = tier.next_check_ms = 0
        await until(lambda: not tier.sweeps.waiting.objects and tier.job is None)
        metas = tier.named.metas - {stale.name for stale in tier.head.stale}
        assert len(await keys_of(world, ".page")) + len(await keys_of(world, ".index")) <= len(metas) + 1
        assert set(await keys_of(world, ".seg")) == {tier.keys.segment(entry) for entry in tier.catalog}


async def test_a_lost_page_costs_reads_of_its_range_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tierlog.broker.offload.work.move_to_page", partial(move_to_page, page_entries_max=40)
    )
    async with world.broker() as running:
        partition = await running.create()
        written = produce(partition, 100, batches_per_segment=1)
        tier = await running.tiered(partition)
        await until(lambda: tier.job is None)
        lost, intact = tier.pages.rows[0], tier.pages.rows[0].end_offset
    key = tier.keys.page(lost.name)
    _, page = await world.objects.get(key)
    before = await keys_of(world, ".seg")
    await world.objects.delete([key])
    async with world.broker() as running:
        with capture_logs() as logs:
            partition = await running.leading()
            again = partition.remote
            assert isinstance(again, PartitionTier)
            await until(lambda: again.sweeps.done_count == 1 and again.job is None)
        (line,) = [line for line in logs if "page of the tier" in line["event"]]
        assert (line["log_level"], line["first_offset"], line["end_offset"]) == ("error", 0, intact)
        assert scraped(running, "tierlog_remote_lost_pages") == 1
        loop = asyncio.get_running_loop()
        read = await running.tiering.reads.read(RemoteAsk(partition, 10, 10_000, True), loop.time() + 5)
        assert read.error is ErrorCode.KAFKA_STORAGE_ERROR
        got = await running.read_all(partition, intact)
        assert written.endswith(got)
        produce(partition, 60, first=100, batches_per_segment=1)
        await running.tiered(partition)
        assert set(before) <= set(await keys_of(world, ".seg")), "what the page named may come back"
        await world.objects.put(key, page, size_bytes=len(page))
        again.next_check_ms = 0
        await until(lambda: not again.pages.lost)
        assert (await running.read_all(partition, 0)).startswith(written)
        await world.objects.delete([key])
        again.loaded.clear()
        assert await running.broker.replicas.advance_log_start(partition, intact) is ErrorCode.NONE
        again.next_check_ms = 0
        await until(lambda: again.head.removed_end == intact and not again.pages.lost)
        again.sweeps.next_ms = again.next_check_ms = 0
        await until(lambda: again.sweeps.done_count >= 2 and again.job is None)
        assert set(await keys_of(world, ".seg")) == {again.keys.segment(entry) for entry in again.catalog}


async def test_the_head_copy_never_goes_back_and_is_written_again_on_an_idle_partition(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create()
        produce(partition, 30)
        tier = await running.tiered(partition)
        manifests = running.tiering.manifests

        async def is_current() -> bool:
            try:
                return await manifests.get_head(tier.keys) == tier.head
            except NotFound:
                return False

        async def copied() -> None:
            tier.head_copied_ms = tier.next_check_ms = 0
            async with asyncio.timeout(PATIENT_S):
                while not await is_current():
                    await asyncio.sleep(0.01)

        await copied()
        late = encode_head(TierHead.empty())
        await world.objects.put(tier.keys.unordered_head_copy, late, size_bytes=len(late))
        await manifests.put_head(tier.keys, TierHead.empty())
        assert await is_current()
        newest = tier.keys.head_copy(tier.head.sequence)
        await world.objects.delete([newest])  # by somebody
        for _ in range(2):
            count = tier.sweeps.done_count
            tier.sweeps.next_ms = tier.next_check_ms = 0
            await until(lambda count=count: tier.sweeps.done_count > count and tier.job is None)  # type: ignore[misc]
            await copied()
        heads = [info.key for info in await world.objects.inner.list(tier.keys.meta_prefix)]
        assert heads == [newest]


async def test_a_purge_ends_though_one_object_cannot_be_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiering.lifecycle.SECOND_SWEEP_MS", 0)
    async with world.broker() as running:
        held: list[str] = []
        world.objects.undeletable = lambda key: key in held
        for name in ("held", "other"):
            partition = await running.create(name)
            produce(partition, 60)
            tier = await running.tiered(partition)
            if name == "held":
                held.append(tier.keys.segment(tier.head.tail[0]))
        admin = running.broker.services.admin
        for name in ("held", "other"):
            partition = await running.leading(name)
            (result,) = await admin.delete_topics([partition.topic_id])
            assert result.error is ErrorCode.NONE
            await admin.confirm_topic_dropped(partition.topic_id, running.broker.config.node_id)
        await until(lambda: not list(running.broker.feed.image.deleting_topics()))
        purge = running.tiering.purge
        assert await keys_of(world, ".seg") == held
        await purge.sweep_again()
        assert scraped(running, "tierlog_remote_undeleted_objects") == 1
        markers = [key for key in await keys_of(world, "") if "/deleted/" in key]
        assert len(markers) == 1
        world.objects.undeletable = lambda key: False
        for sweeps in purge._sweeps.values():
            sweeps.next_ms = 0
        await purge.sweep_again()
        assert [key for key in await keys_of(world, "") if "/deleted/" in key or key.endswith(".seg")] == []
        assert scraped(running, "tierlog_remote_undeleted_objects") == 0
