"""What a broker does by itself for many partitions at once has a bound, too (I15)."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.patience import PATIENT_S
from tests.unit.broker.test_config_effects import create, running, until
from tests.unit.broker.test_handlers import produce_of, record_batch
from tests.unit.broker.test_waiters_end import connected
from tests.unit.telemetry.test_metrics import scrape, values
from tierlog.broker.following.followed_brokers import TIER_LOOKUPS, FollowedBrokers
from tierlog.broker.offload.lead_check import COMPARED_AT_ONCE, LeadCheck
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.reports.offline_replicas import PARTITIONS_PER_TXN, OfflineReplicas
from tierlog.broker.work import beside_loop
from tierlog.errors import ErrorCode
from tierlog.metadata.control.topics import NewTopic
from tierlog.metadata.transactions import Txn
from tierlog.types import TopicPartition
from tierlog.wire.messages.produce import ProduceResponse

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


async def test_batches_that_wait_to_be_opened_keep_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request alone is within all bounds; what is too much together is to be sent again, and nobody else waits."""
    held_up = threading.Event()
    advance = beside_loop._advance

    def stuck(steps: Any) -> Any:
        held_up.wait(PATIENT_S)
        return advance(steps)

    monkeypatch.setattr(beside_loop, "_advance", stuck)
    async with (
        running(tmp_path, tierlog_request_memory_bytes=str(1 << 20)) as broker,
        AsyncExitStack() as peers,
    ):
        await create(broker, cleanup_policy="compact")
        await broker.services.admin.create_topics([NewTopic("plain", 1, 1)])
        await until(lambda: not isinstance(broker.replicas.by_name("plain", 0), ErrorCode))
        attackers = [await peers.enter_async_context(connected(broker)) for _ in range(6)]
        openings = broker.services.openings
        try:
            for number, attacker in enumerate(attackers):
                attacker.send(produce_of((0, record_batch(400_000)), acks=-1, timeout_ms=60_000))
                if number < 2:
                    await until(lambda n=number: openings.held_bytes > (n + 1) * 400_000)  # type: ignore[misc]
                    continue
                answer = await attacker.receive(ProduceResponse)
                (refused,) = answer.responses[0].partition_responses
                assert refused.error_code == ErrorCode.REQUEST_TIMED_OUT
                assert openings.held_bytes <= (1 << 20) + 500_000
            shown = values(await scrape(broker.registry))["tierlog_opening_memory_used_bytes", ()]
            assert shown == openings.held_bytes > 800_000
            honest = await peers.enter_async_context(connected(broker))
            small = produce_of((0, record_batch()), acks=-1)
            small.topic_data[0].name = "plain"
            honest.send(small)
            answer = await honest.receive(ProduceResponse)
            assert answer.responses[0].partition_responses[0].error_code == 0
        finally:
            held_up.set()
        for attacker in attackers[:2]:
            answer = await attacker.receive(ProduceResponse)
            assert answer.responses[0].partition_responses[0].error_code == 0
        await until(lambda: openings.held_bytes == 0)


async def test_so_many_tiers_are_looked_up_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as broker:
        fetchers: FollowedBrokers = broker.followed_brokers
        at_once = AtOnce()
        monkeypatch.setattr(fetchers, "_start_at_tier", lambda: at_once.job)
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
