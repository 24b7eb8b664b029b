"""The controller's task beside a store that fails: what was to be done is done as soon as the store answers again."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.unit.metadata.test_drivers import Node
from tierlog.broker.cluster import controller_runner
from tierlog.errors import ErrorCode, StoreUnavailable
from tierlog.metadata import keys, records
from tierlog.metadata.control.topics import NewTopic
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.transactions import Put, Txn, TxnResult


class FailingOnce(MemoryStore):
    """``failures``: how many of the next transactions that write a partition are lost."""

    failures = 0

    async def txn(self, txn: Txn) -> TxnResult:
        if self.failures and f"Put(key='{keys.PARTITIONS}" in repr(txn):
            self.failures -= 1
            raise StoreUnavailable("not now")
        return await super().txn(txn)


async def test_a_round_that_failed_does_not_wait_for_the_next_full_scan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(controller_runner, "FULL_SCAN_S", 3600.0)
    store = FailingOnce(lambda: time.monotonic_ns() // 1_000_000)
    node = await Node(store).start()
    (result,) = await node.admin.create_topics([NewTopic("t", 1, 1)])
    assert result.error is ErrorCode.NONE
    (topic_id,) = node.image.topics_by_id
    before = node.partition("t")
    without = before._replace(leader=-1, leader_epoch=before.leader_epoch + 1)
    store.failures = 2
    put = Put(keys.partition(topic_id, 0), records.encode_partition(without))
    await MemoryStore.txn(store, Txn((), (put,)))  # another's, which does not fail
    await node.until(lambda: node.partition("t").leader_epoch > before.leader_epoch)
    await node.until(lambda: node.partition("t").leader == 1)
    assert not store.failures
    await node.stop()
    await store.close()


class Counting(MemoryStore):
    """``most``: how many transactions that write partitions were under way at once, and how many partitions one wrote."""

    under_way = 0
    most = (0, 0)

    async def txn(self, txn: Txn) -> TxnResult:
        partitions = sum(isinstance(op, Put) and op.key.startswith(keys.PARTITIONS) for op in txn.then)
        self.under_way += partitions > 0
        self.most = max(self.most[0], self.under_way), max(self.most[1], partitions)
        try:
            await asyncio.sleep(0.001)
            return await super().txn(txn)
        finally:
            self.under_way -= partitions > 0


async def test_a_reconciler_with_very_much_to_do_keeps_to_few_transactions() -> None:
    """All of 3,000 partitions lose their leader at once; a topic is created meanwhile."""
    store = Counting(lambda: time.monotonic_ns() // 1_000_000)
    node = await Node(store).start()
    for n in range(3):
        (result,) = await node.admin.create_topics([NewTopic(f"t{n}", 1_000, 1)])
        assert result.error is ErrorCode.NONE
    store.most = (0, 0)
    puts = [
        Put(
            keys.partition(topic_id, n),
            records.encode_partition(state._replace(leader=-1, leader_epoch=state.leader_epoch + 1)),
        )
        for topic_id, topic in node.image.topics_by_id.items()
        for n, state in topic.partitions.items()
    ]
    for start in range(0, len(puts), 100):
        await MemoryStore.txn(store, Txn((), tuple(puts[start : start + 100])))
    await node.until(lambda: node.partition("t2", 999).leader == -1)
    rounds = asyncio.create_task(node.until(lambda: all(is_led(node, n) for n in range(3))))
    (result,) = await node.admin.create_topics([NewTopic("beside", 1, 1)])
    assert result.error is ErrorCode.NONE
    await rounds
    transactions, partitions = store.most
    assert transactions <= controller_runner.MAX_CONCURRENT_ROUNDS + 1, "and the new topic's"
    assert partitions <= 60
    await node.stop()
    await store.close()


def is_led(node: Node, n: int) -> bool:
    topic = node.image.topic(f"t{n}")
    return topic is not None and all(state.leader == 1 for state in topic.partitions.values())
