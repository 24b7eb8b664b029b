"""A cluster's metadata without a loop: the memory store never waits, so its coroutines can be run on the
spot."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from tierlog.metadata import keys, records
from tierlog.metadata.commits import leave_clean_stop, register
from tierlog.metadata.control.controller import reconcile
from tierlog.metadata.image import ImageDelta, MetadataImage
from tierlog.metadata.records import BrokerRegistration, BrokerState, PartitionState, TopicRecord
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.transactions import NO_LEASE, Delete, Put, Txn, TxnResult

T = TypeVar("T")


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that does not wait for anything."""
    try:
        call.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("it waits")


def topic_id(n: int) -> bytes:
    return n.to_bytes(16, "big")


class Feed:
    """An image that follows a store as far as it is told to."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.image = MetadataImage()
        self.image.revision = 1
        self._watch = store.watch([keys.ROOT], 2)

    def catch_up(self, revisions: int | None = None) -> list[ImageDelta]:
        deltas = []
        while self.image.revision < self.store.revision and revisions != 0:
            deltas.append(self.image.apply(at_once(self._watch.__anext__())))
            revisions = None if revisions is None else revisions - 1
        return deltas


class Cluster:
    """A store, an image of it, and shortcuts to put facts into it."""

    def __init__(self, brokers: int = 0, **registration: Any) -> None:
        self.now_ms = 0
        self.store = MemoryStore(lambda: self.now_ms)
        self.feed = Feed(self.store)
        self.image = self.feed.image
        self.rules = TopicRules()
        for broker_id in range(1, brokers + 1):
            self.register(broker_id, **registration)

    def txn(self, txn: Txn) -> TxnResult:
        result = at_once(self.store.txn(txn))
        self.feed.catch_up()
        return result

    def put(self, *puts: Put) -> ImageDelta:
        at_once(self.store.txn(Txn((), puts)))
        return self.feed.catch_up()[-1]

    def delete(self, *names: str) -> ImageDelta:
        at_once(self.store.txn(Txn((), tuple(Delete(name) for name in names))))
        return self.feed.catch_up()[-1]

    def register(self, broker_id: int, *, fenced: bool = False, **fields: Any) -> int:
        """A broker that is dealt with and, unless ``fenced``, may lead."""
        epoch = self.registration(broker_id, want_fence=fenced, **fields)
        state = records.encode_broker_state(BrokerState(epoch, fenced=fenced))
        self.put(Put(keys.broker_state(broker_id), state))
        return epoch

    def registration(self, broker_id: int, **fields: Any) -> int:
        """A registration that nobody has dealt with; the old one, if any, is gone before."""
        key = keys.registration(broker_id)
        if self.image.brokers.get(broker_id) is not None and self.image.brokers[broker_id].registration:
            self.delete(key)
        record = BrokerRegistration("one", (), **{"want_fence": True, **fields})
        marker = at_once(self.store.get(keys.clean_stop(broker_id)))
        txn, _ = register(broker_id, record, NO_LEASE, marker)
        return self.txn(txn).revision

    def want(self, broker_id: int, **fields: Any) -> None:
        registration = self.image.brokers[broker_id].registration
        assert registration is not None
        record = replace(registration, **fields)
        self.put(Put(keys.registration(broker_id), records.encode_registration(record)))

    def clean_stop(self, broker_id: int, broker_epoch: int) -> None:
        self.txn(leave_clean_stop(broker_id, broker_epoch, (), broker_epoch))

    def topic(self, name: str, *states: PartitionState, n: int = 1) -> ImageDelta:
        text = keys.format_topic_id(topic_id(n))
        return self.put(
            *(
                Put(keys.partition(topic_id(n), i), records.encode_partition(state))
                for i, state in enumerate(states)
            ),
            Put(keys.topic(topic_id(n)), records.encode_topic(TopicRecord(name, len(states)))),
            Put(keys.topic_name(name), records.encode_topic_name(text)),
        )

    def configs(self, topic: str, **configs: str) -> None:
        named = {name.replace("_", "."): value for name, value in configs.items()}
        self.put(Put(keys.topic_config(topic), records.encode_configs(named)))

    def reconcile(self) -> int:
        """Rounds of the reconciler until nothing is missing; how many transactions it took."""
        count = 0
        for _ in range(20):
            txns = [txn for txn in reconcile(self.image, self.rules) if txn is not None]
            if not txns:
                self.image.check()
                return count
            for txn in txns:
                self.txn(txn)
            count += len(txns)
        raise AssertionError("the reconciler does not come to rest")

    def partition(self, n: int = 1, partition: int = 0) -> PartitionState:
        state = self.image.partition(topic_id(n), partition)
        assert state is not None
        return state
