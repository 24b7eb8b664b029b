"""ISR changes on their way to the store: many in one transaction, each with an outcome of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from tests.unit.broker.test_config_effects import until
from tierlog.broker.cluster.metadata_feed import MetadataFeed
from tierlog.broker.disk.flusher import Flusher
from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.leading.isr_writer import IsrChangeDriver
from tierlog.broker.replicas.partition import Partition, PartitionOwner
from tierlog.broker.work.background import Background
from tierlog.config.topic import TopicConfig
from tierlog.log.log import Log
from tierlog.metadata import keys, records
from tierlog.metadata.image import ImageDelta
from tierlog.metadata.records import (
    BrokerRegistration,
    BrokerState,
    PartitionState,
    TopicRecord,
)
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.transactions import MAX_NESTED, Put, Txn, TxnResult
from tierlog.replication.fetches import FollowerFetch
from tierlog.replication.roles import lead
from tierlog.types import TopicPartition

TOPIC_ID = bytes(range(16))
COUNT = 150
LAG_MS = 1000


class SlowStore(MemoryStore):
    """Transactions wait for ``gate``; ``batches`` are those of several partitions."""

    def __init__(self) -> None:
        super().__init__(lambda: 0)
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches: list[Txn] = []

    async def txn(self, txn: Txn) -> TxnResult:
        if any(isinstance(op, Txn) for op in txn.then):
            self.batches.append(txn)
            await self.gate.wait()
        return await super().txn(txn)


class Led:
    """Broker 1 leads ``COUNT`` partitions; broker 2 follows, and is not in sync."""

    def __init__(self, store: SlowStore, feed: MetadataFeed, partitions: list[Partition]) -> None:
        self.store = store
        self.feed = feed
        self.partitions = partitions
        self.driver = IsrChangeDriver(
            1, LAG_MS, store, lambda: feed.image, partitions, asyncio.get_running_loop(), Background()
        )

    def state(self, index: int) -> PartitionState:
        found = self.feed.image.partition(TOPIC_ID, index)
        assert found is not None
        return found

    def on_delta(self, delta: ImageDelta) -> None:
        for change in delta.partitions_changed:
            partition, state = self.partitions[change.partition], change.new
            if partition.leader is not None and state is not None:
                partition.on_isr_changed(
                    partition.leader.on_partition_record(
                        frozenset(state.isr), state.min_isr, state.partition_epoch
                    )
                )

    def fetch_all(self) -> None:
        """Broker 2 has everything of each, in one turn of the loop."""
        epoch = self.feed.image.brokers[2].broker_epoch
        for partition in self.partitions:
            fetch = FollowerFetch(2, epoch, partition.leader_epoch, partition.log.log_end_offset, -1, 0)
            assert partition.serve_follower(fetch, 0).may_join
            self.driver.consider(partition)

    def isrs(self) -> list[set[int]]:
        return [set(p.leader.isr) for p in self.partitions if p.leader is not None]

    async def touch(self, index: int) -> int:
        """Somebody else writes the record; returns its partition epoch."""
        state = self.state(index)
        put = Put(keys.partition(TOPIC_ID, index), records.encode_partition(state))
        return (await self.store.txn(Txn((), (put,)))).revision


@asynccontextmanager
async def led(tmp_path: Path) -> AsyncIterator[Led]:
    loop, store = asyncio.get_running_loop(), SlowStore()
    for broker_id in (1, 2):
        registration = records.encode_registration(BrokerRegistration("x", ()))
        epoch = (await store.txn(Txn((), (Put(keys.registration(broker_id), registration),)))).revision
        state = records.encode_broker_state(BrokerState(epoch, fenced=False))
        await store.txn(Txn((), (Put(keys.broker_state(broker_id), state),)))
    record = PartitionState(1, 1, (1,), (1, 2), 1)
    puts = [Put(keys.partition(TOPIC_ID, n), records.encode_partition(record)) for n in range(COUNT)]
    for put in puts:
        await store.txn(Txn((), (put,)))
    text = keys.format_topic_id(TOPIC_ID)
    topic = Put(keys.topic(TOPIC_ID), records.encode_topic(TopicRecord("t", COUNT)))
    await store.txn(Txn((), (topic, Put(keys.TOPIC_NAMES + "t", records.encode_topic_name(text)))))
    feed = MetadataFeed(store)
    await feed.start()
    flusher = Flusher(loop, [str(tmp_path)])
    log_dir = LogDir(tmp_path, 0)
    partitions = []
    for n in range(COUNT):
        name = TopicPartition("t", n)
        log = Log.open(tmp_path / str(name), name, TOPIC_ID, TopicConfig(), now_ms=0, was_clean=True)
        partition = Partition(name, TOPIC_ID, log, log_dir, flusher, cast(PartitionOwner, None))
        found = feed.image.partition(TOPIC_ID, n)
        assert found is not None
        partition.lead(
            lead(
                found,
                1,
                feed.image.brokers[1].broker_epoch,
                log_end_offset=0,
                durable_end_offset=0,
                high_watermark=0,
                now_ms=0,
            ),
            found.partition_epoch,
        )
        partitions.append(partition)
    made = Led(store, feed, partitions)
    feed.subscribe(made.on_delta)
    try:
        yield made
    finally:
        store.gate.set()
        await made.driver.close()
        await feed.close()
        await store.close()
        await flusher.drain()
        log_dir.close()


async def test_what_is_due_at_once_shares_transactions(tmp_path: Path) -> None:
    async with led(tmp_path) as each:
        each.fetch_all()
        await until(lambda: each.isrs() == [{1, 2}] * COUNT)
        sizes = [len(txn.then) for txn in each.store.batches]
        assert sizes == [MAX_NESTED, MAX_NESTED, COUNT - 2 * MAX_NESTED]
        assert each.driver.expand_count == COUNT
        assert each.driver.failed_count == 0


async def test_one_is_refused_without_the_others(tmp_path: Path) -> None:
    async with led(tmp_path) as each:
        each.store.gate.clear()
        each.fetch_all()
        await until(lambda: len(each.store.batches) == 3)
        assert all(p.leader is not None and p.leader.maximal_isr == {1, 2} for p in each.partitions), "A3"
        epoch = await each.touch(7)
        await until(lambda: each.feed.image.revision >= epoch)
        each.store.gate.set()
        await until(lambda: each.isrs().count({1, 2}) == COUNT - 1)
        refused = each.partitions[7].leader
        assert refused is not None
        assert refused.isr == {1}
        assert each.driver.failed_count == 1
        await until(lambda: each.isrs() == [{1, 2}] * COUNT)


async def test_an_unknown_outcome_is_that_of_each(tmp_path: Path) -> None:
    async with led(tmp_path) as each:
        each.store.lose_next_outcome(applied=False)
        each.fetch_all()
        await until(lambda: each.driver.failed_count)
        assert each.driver.failed_count == MAX_NESTED
        for partition in each.partitions:
            assert partition.leader is not None
            assert partition.leader.maximal_isr == {1, 2}, "A3: it may yet be applied"
        await until(lambda: each.isrs() == [{1, 2}] * COUNT)


async def test_an_applied_batch_of_unknown_outcome_is_ended_by_the_watch(tmp_path: Path) -> None:
    async with led(tmp_path) as each:
        each.store.lose_next_outcome(applied=True)
        each.fetch_all()
        await until(lambda: each.isrs() == [{1, 2}] * COUNT)
        assert all(p.leader is not None and not p.leader.changes.pending for p in each.partitions)


async def test_what_a_newer_record_has_settled_is_not_sent(tmp_path: Path) -> None:
    async with led(tmp_path) as each:
        each.store.gate.clear()
        each.fetch_all()
        leader = each.partitions[0].leader
        assert leader is not None
        # Before the batch has left.
        leader.on_partition_record(frozenset({1}), 1, leader.partition_epoch + 1)
        await until(lambda: len(each.store.batches) == 3)
        written = {op.then[0].key for txn in each.store.batches for op in txn.then if isinstance(op, Txn)}  # type: ignore[union-attr]
        assert written == {keys.partition(TOPIC_ID, n) for n in range(1, COUNT)}


async def test_what_waits_while_others_are_under_way_goes_together(tmp_path: Path) -> None:
    async with led(tmp_path) as each:
        each.store.gate.clear()
        epoch = each.feed.image.brokers[2].broker_epoch
        for number, partition in enumerate(each.partitions[:10], 1):
            fetch = FollowerFetch(2, epoch, partition.leader_epoch, 0, -1, 0)
            partition.serve_follower(fetch, 0)
            each.driver.consider(partition)
            await until(lambda n=number: len(each.store.batches) == min(n, 4))  # type: ignore[misc]
        each.store.gate.set()
        await until(lambda: each.isrs().count({1, 2}) == 10)
        assert [len(txn.then) for txn in each.store.batches] == [1, 1, 1, 1, 6]
