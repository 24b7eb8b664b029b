"""What a broker does by itself for many partitions at once has a bound, too (I15)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.broker.test_config_effects import create, running, until
from tierlog.broker.following.fetchers import TIER_LOOKUPS, ReplicaFetchers
from tierlog.broker.offload.lead_check import COMPARED_AT_ONCE, LeadCheck
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.reports.offline_replicas import PARTITIONS_PER_TXN, OfflineReplicas
from tierlog.metadata.transactions import Txn
from tierlog.types import TopicPartition

MANY = 50


class AtOnce:
    """Counts how many are under way."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.ended = 0

    async def job(self, *_: object) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        self.ended += 1


async def test_offline_replicas_are_told_in_pieces(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        partitions = await create(broker, MANY)
        sizes: list[int] = []
        store, txn = broker.store, broker.store.txn

        async def counted(given: Txn) -> Any:
            sizes.append(len(given.then))
            return await txn(given)

        spied = SimpleNamespace(txn=counted)
        reports = OfflineReplicas(
            broker.config.node_id, cast(Any, spied), lambda: broker.feed.image, broker.registration
        )
        wanted = {(p.topic_id, p.topic_partition.partition): "elsewhere" for p in partitions}
        await reports._assign(wanted, "elsewhere", {})
        assert sum(sizes) >= MANY
        assert max(sizes) == PARTITIONS_PER_TXN
        assert store is broker.store


async def test_so_many_tiers_are_looked_up_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        fetchers: ReplicaFetchers = broker.fetchers
        at_once = AtOnce()
        fetchers.start_at_tier = at_once.job
        told: list[int] = []
        for number in range(MANY):
            follower = SimpleNamespace(
                leader_id=-1, on_nothing_tiered=lambda number=number: told.append(number)
            )
            partition = SimpleNamespace(follower=follower, topic_partition=TopicPartition("t", number))
            fetchers._begin_at_tier(cast(Any, partition), cast(Any, follower), is_new=True)
        await until(lambda: len(told) == MANY)
        assert at_once.most == TIER_LOOKUPS


async def test_so_many_logs_are_compared_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as broker:
        partitions = await create(broker, MANY)
        at_once = AtOnce()
        compared: list[Partition] = []
        check = LeadCheck(1, lambda: broker.feed.image, at_once.job, compared.append, broker.background)
        monkeypatch.setattr(check, "_is_elected", lambda partition, epoch: partition not in compared)
        check.put_off(partitions)
        states = [broker.feed.image.partition(p.topic_id, p.topic_partition.partition) for p in partitions]
        for partition, state in zip(partitions, states, strict=True):
            assert state is not None
            wish = SimpleNamespace(remote_storage_enable=True, is_compacted=False)
            partition.config = cast(Any, wish)
            assert not check.may_lead(partition, state)
        await until(lambda: len(compared) == MANY)
        assert at_once.most == COMPARED_AT_ONCE
        await check.close()
