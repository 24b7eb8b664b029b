"""What kills and failed commits leave in the bucket is gone within a stated time, for a stated number of requests; a broker
with many empty partitions asks the store next to nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.unit.offload.brokers import Running, World, produce, until
from tiering.model import MetaObject
from tiering.objects.memory import MemoryStore
from tiering.objects.port import LIST_LIMIT_MAX, UploadInfo, list_all
from tiering.objects.wrapping import Call, WrappedStore
from tiering.sweeping.sweeps import AGAIN_MS, HOUR_MS, HourlyBudget
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.offload.cleaning.uploads import ABORT_AGE_MS
from tierlog.broker.offload.tier import PartitionTier
from tierlog.errors import ErrorCode, StoreUnavailable, UnknownOutcome
from tierlog.metadata.control.topics import NewTopic
from tierlog.metadata.transactions import Txn, TxnResult

KILLS = 50
FAILED_COMMITS = 100
R = TypeVar("R")


class Counted(WrappedStore):
    """Counts the requests that reach the store, by verb."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.memory = inner
        self.requests: Counter[str] = Counter()

    async def _parts(self, call: Call, work: Callable[[], Awaitable[R]]) -> R:
        self.requests[call.verb] += 1
        return await work()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.fixture
def counted(world: World) -> Counted:
    inner = world.objects.inner
    assert isinstance(inner, MemoryStore)
    world.objects.inner = Counted(inner)
    return world.objects.inner


async def orphans(counted: Counted, tier: PartitionTier) -> list[str]:
    named, listed = tier.named, [info.key async for info in list_all(counted.memory, "")]
    return [key for key in listed if (name := tier.keys.parse(key)) is not None and name not in named]


async def leave_behind(counted: Counted, tier: PartitionTier, number: int) -> None:
    """What a broker of an older epoch leaves that is killed in the middle of its work."""
    uuids, epoch = [(3 * number + n).to_bytes(16, "big") for n in range(3)], tier.leader_epoch - 1
    segment = tier.keys.segment(tier.head.tail[0]._replace(leader_epoch=epoch, uuid=uuids[0]))
    page, index = (MetaObject(number, epoch, uuid) for uuid in uuids[1:])
    for key in (segment, tier.keys.page(page), tier.keys.page_index(index)):
        await counted.memory.put(key, b"x", size_bytes=1)
    counted.memory.uploads.append(UploadInfo(segment, str(number), wall_clock_ms() - ABORT_AGE_MS))


async def fail_commits(running: Running, tier: PartitionTier, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head cannot be committed so many times; every third commit may have been made."""
    real, fates = running.broker.store.txn, itertools.count(1)

    async def txn(txn: Txn) -> TxnResult:
        if any(getattr(put, "key", "").startswith("/tier/") for put in txn.then):
            raise UnknownOutcome("no answer") if next(fates) % 3 == 0 else StoreUnavailable("gone")
        return await real(txn)

    with monkeypatch.context() as patched:
        patched.setattr("tierlog.broker.offload.driver.BACKOFF_MAX_MS", 10)
        patched.setattr("tierlog.broker.offload.work.ORPHANS_MAX", 4)  # the others are forgotten
        patched.setattr(running.broker.store, "txn", txn)
        copied = running.tiering.counters.total("copy_requests")
        produce(tier.partition, 11, first=30)
        tier.next_try_ms = 0
        await until(
            lambda: (
                running.tiering.counters.total("copy_requests") >= copied + FAILED_COMMITS
                and tier.job is None
            )
        )


async def swept(tier: PartitionTier) -> None:
    """The time of the next sweep has come, which is ``AGAIN_MS`` after the last doubt at the latest."""
    assert tier.sweeps.next_ms <= wall_clock_ms() + AGAIN_MS
    done = tier.sweeps.done_count
    tier.sweeps.next_ms = 0
    await until(lambda: tier.sweeps.done_count > done)


async def test_nothing_is_left_of_kills_and_failed_commits(
    world: World, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stated: none ``AGAIN_MS`` after the last one appeared, for one listing per 1,000 objects."""
    async with world.broker() as running:
        produce(await running.create(local_retention_bytes="-1"), 30)
    async with world.broker() as running:  # of a later epoch
        partition = await running.leading()
        tier = await running.tiered(partition)
        await until(lambda: tier.sweeps.done_count == 1)
        for number in range(KILLS):
            await leave_behind(counted, tier, number)
        await fail_commits(running, tier, monkeypatch)
        assert len(await orphans(counted, tier)) > KILLS * 3
        await running.tiered(partition)
        await until(lambda: tier.job is None)
        counted.requests.clear()
        await swept(tier)
        assert await orphans(counted, tier) == []
        assert counted.requests["list"] == 1
        assert await running.tiering.left_uploads.abort_old(running.tiering.objects) == KILLS
        assert counted.memory.uploads == []
        assert counted.requests["list_uploads"] == 1


async def test_an_upload_that_may_be_under_way_stays(world: World, counted: Counted) -> None:
    async with world.broker(tierlog_remote_sweep_requests_per_hour="10000") as running:
        young = UploadInfo("a", "1", wall_clock_ms() - ABORT_AGE_MS + 60_000)
        counted.memory.uploads = [young, *(UploadInfo("b", str(n), 0) for n in range(LIST_LIMIT_MAX + 5))]
        await running.tiering.left_uploads.abort_old(running.tiering.objects)
        await running.tiering.left_uploads.abort_old(running.tiering.objects)
        assert counted.memory.uploads == [young]


async def test_the_controller_aborts_them_by_itself_and_nobody_else(
    world: World, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tierlog.broker.offload.cleaning.uploads.LOOK_S", 0.01)
    async with world.broker() as running:
        is_mine = running.tiering.left_uploads._is_mine
        await until(is_mine)
        running.tiering.left_uploads._is_mine = lambda: False
        counted.memory.uploads = [UploadInfo("a", "1", 0)]
        counted.requests.clear()
        await asyncio.sleep(0.1)
        assert counted.requests["list_uploads"] == 0
        running.tiering.left_uploads._is_mine = is_mine
        await until(lambda: not counted.memory.uploads)


def test_a_budget_is_kept_in_each_hour() -> None:
    budget = HourlyBudget(3)
    assert [budget.wait_ms(1_000 + n) for n in range(4)] == [0, 0, 0, HOUR_MS - 3]
    assert [budget.wait_ms(1_000 + HOUR_MS + n) for n in range(4)] == [0, 0, 0, HOUR_MS - 3]
    assert budget.wait_ms(5) == 0  # the clock was set back


async def test_without_budget_a_sweep_stands_still_and_nothing_else(world: World, counted: Counted) -> None:
    async with world.broker(tierlog_remote_sweep_requests_per_hour="1") as running:
        partition = await running.create()
        tier = partition.remote
        assert isinstance(tier, PartitionTier)
        await until(lambda: tier.sweeps.done_count == 1)
        counted.requests.clear()
        tier.sweeps.next_ms = 0
        produce(partition, 60)
        await running.tiered(partition)
        assert (tier.sweeps.done_count, counted.requests["list"]) == (1, 0)


async def test_many_empty_partitions_cost_a_start_few_requests(world: World, counted: Counted) -> None:
    """Bar: one request per 100 partitions."""
    count = 1_000
    async with world.broker() as running:
        topic = NewTopic("t", count, 1, configs={"remote.storage.enable": "true"})
        (result,) = await running.broker.services.admin.create_topics([topic])
        assert result.error is ErrorCode.NONE
        await until(lambda: len(running.tiering.offload.tiers) == count)
    counted.requests.clear()
    async with world.broker() as running:
        await until(lambda: len(running.tiering.offload.tiers) == count)
        await until(lambda: all(tier.sweeps.done_count for tier in running.tiering.offload.tiers))
        await until(lambda: all(tier.job is None for tier in running.tiering.offload.tiers))
    assert counted.requests.total() <= count / 100, counted.requests
