"""The controller's task beside a store that fails: what was to be done is done as soon as the store answers again."""

from __future__ import annotations

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
