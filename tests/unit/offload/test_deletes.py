"""What a bucket that refuses deletes, a crash in the middle of one, and a lost page cost: their own range at most."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.offload.brokers import World, produce, until
from tierlog.broker.offload.tier import PartitionTier
from tierlog.errors import ErrorCode, StoreUnavailable, UnknownOutcome
from tierlog.metadata.store import Txn, TxnResult


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
