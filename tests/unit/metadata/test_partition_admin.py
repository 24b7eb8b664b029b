"""Moves, elections and removals through the controller's task: outcomes that nobody learns, two brokers, balance."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.unit.metadata.test_drivers import Node
from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.control.features import FeatureUpdate
from tierlog.metadata.control.leadership import Election, ElectionType
from tierlog.metadata.control.reassignment import Reassignment
from tierlog.metadata.control.topics import NewTopic
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.transactions import Put, Txn


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    store = MemoryStore(lambda: time.monotonic_ns() // 1_000_000)
    yield store
    await store.close()


@pytest.fixture
async def pair(store: MemoryStore) -> AsyncIterator[list[Node]]:
    nodes = [await Node(store, i).start() for i in (1, 2)]
    await nodes[0].until(lambda: all(b.is_available for b in nodes[0].image.brokers.values()))
    yield nodes
    for node in nodes:
        await node.stop()


@pytest.mark.parametrize("applied", [True, False])
async def test_unknown_outcomes(store: MemoryStore, pair: list[Node], applied: bool) -> None:
    one, _ = pair
    await one.admin.create_topics([NewTopic("t", assignments=[(0, (1, 2))])])
    await one.until(lambda: one.partition("t").leader == 1)
    store.lose_next_outcome(applied=applied)
    (moved,) = await one.admin.reassign_partitions([Reassignment("t", 0, (2, 1))])
    assert (moved.error, one.partition("t").replicas) == (ErrorCode.NONE, (2, 1))
    store.lose_next_outcome(applied=applied)
    (elected,) = await one.admin.elect_leaders([Election("t", 0)], ElectionType.PREFERRED)
    assert (elected.error, one.partition("t").leader) == (ErrorCode.NONE, 2)
    (needless,) = await one.admin.elect_leaders([Election("t", 0)], ElectionType.PREFERRED)
    assert needless.error is ErrorCode.ELECTION_NOT_NEEDED
    await one.admin.create_topics([NewTopic("u", assignments=[(0, (1,))])])
    store.lose_next_outcome(applied=applied)
    (begun,) = await one.admin.reassign_partitions([Reassignment("u", 0, (2,))])
    assert (begun.error, one.partition("u").adding) == (ErrorCode.NONE, (2,))
    store.lose_next_outcome(applied=applied)
    (cancelled,) = await one.admin.reassign_partitions([Reassignment("u", 0, None)])
    assert (cancelled.error, one.partition("u").replicas) == (ErrorCode.NONE, (1,))


@pytest.mark.parametrize("applied", [True, False])
async def test_a_stopped_broker_is_unregistered_by_whoever_is_asked(
    store: MemoryStore, pair: list[Node], applied: bool
) -> None:
    one, two = pair
    assert (await one.admin.unregister_broker(2)).error is ErrorCode.INVALID_REQUEST
    assert (await one.admin.unregister_broker(7)).error is ErrorCode.BROKER_ID_NOT_REGISTERED
    state = records.encode_broker_state(records.BrokerState(5))
    await store.txn(Txn((), (Put(keys.broker_state(3), state),)))
    await two.until(lambda: 3 in two.image.brokers)
    store.lose_next_outcome(applied=applied)
    assert not two.runner.is_controller
    assert (await two.admin.unregister_broker(3)).error is ErrorCode.NONE
    assert 3 not in two.image.brokers


async def test_only_the_controller_moves_partitions(pair: list[Node]) -> None:
    _, two = pair
    (moved,) = await two.admin.reassign_partitions([Reassignment("t", 0, (2,))])
    (elected,) = await two.admin.elect_leaders([Election("t", 0)], ElectionType.UNCLEAN)
    assert moved.error is elected.error is ErrorCode.NOT_CONTROLLER
    unknown = [FeatureUpdate("unknown", 1)]
    assert (await two.admin.update_features(unknown)).error is ErrorCode.NOT_CONTROLLER
    assert (await pair[0].admin.update_features(unknown)).error is ErrorCode.INVALID_UPDATE_VERSION
    assert (await pair[0].admin.update_features([])).error is ErrorCode.NONE


async def test_leaders_are_balanced_from_time_to_time(store: MemoryStore) -> None:
    node = Node(store)
    node.runner.rules = replace(node.runner.rules, balance_interval_ms=20)
    await node.start()
    other = await Node(store, 2).start()
    await node.until(lambda: 2 in node.image.brokers and node.image.brokers[2].is_available)
    await node.admin.create_topics([NewTopic("t", assignments=[(0, (2, 1))])])
    await node.until(lambda: node.partition("t").isr == (2, 1))
    (moved,) = await node.admin.reassign_partitions([Reassignment("t", 0, (1, 2))])
    assert moved.error is ErrorCode.NONE
    await node.until(lambda: node.partition("t").leader == 1)
    await other.stop()
    await node.stop()
