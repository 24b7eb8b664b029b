"""Feed, registration and controller together, on both stores: what a node does from start to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENT_S
from tierlog.broker.cluster import metadata_feed, registration
from tierlog.broker.cluster.controller_client import ControllerClient
from tierlog.broker.cluster.controller_runner import ControllerRunner
from tierlog.broker.cluster.metadata_feed import MetadataFeed
from tierlog.broker.cluster.registration import BrokerDescription, Registration
from tierlog.errors import ErrorCode, StoreUnavailable, UserError
from tierlog.metadata import keys
from tierlog.metadata.control.configs import ConfigAlteration, ConfigOp, ConfigOperation
from tierlog.metadata.control.topics import NewPartitions, NewTopic
from tierlog.metadata.image import ImageDelta
from tierlog.metadata.records import Endpoint, PartitionState
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.stores.port import Compacted, MetadataStore
from tierlog.metadata.stores.sqlite import SqliteStore
from tierlog.metadata.transactions import Delete, Put, Txn


class Node:
    """The metadata side of a broker, wired as the composition root does it."""

    def __init__(
        self,
        store: MetadataStore,
        broker_id: int = 1,
        *,
        session_timeout_ms: int = 20_000,
        **description: Any,
    ) -> None:
        self.store = store
        self.feed = MetadataFeed(store)
        self.image = self.feed.image
        self.deltas: list[ImageDelta] = []
        self.feed.subscribe(self.deltas.append)
        endpoint = Endpoint("PLAINTEXT", "localhost", 9092 + broker_id)
        self.registration = Registration(
            store,
            self.feed,
            BrokerDescription(broker_id, (endpoint,), **description),
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=100,
        )
        self.runner = ControllerRunner(store, self.feed, self.registration, TopicRules(replication_factor=1))
        self.admin = ControllerClient(self.runner)

    async def start(self) -> Node:
        await self.feed.start()
        await self.registration.start()
        self.runner.start()
        await self.registration.activate()
        return self

    async def stop(self, *, clean: bool = True) -> None:
        await self.runner.close()
        await self.registration.close(clean=clean)
        await self.feed.close()

    async def die(self) -> None:
        """Nobody renews its lease any more, as after kill -9; with etcd there is no other sign of that."""
        assert self.registration._driver is not None
        await self.registration._driver.stop()
        await self.runner.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENT_S):
            while not condition():
                revision = self.image.revision
                await self.feed.wait_for_revision(revision + 1)

    def partition(self, name: str, n: int = 0) -> PartitionState:
        topic = self.image.topic(name)
        assert topic is not None
        return topic.partitions[n]


OpenStore = Callable[[], Coroutine[Any, Any, MetadataStore]]


@pytest.fixture(params=["memory", "sqlite"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Opens the one store of the test; in SQLite each call is a connection of its own."""
    opened: list[MetadataStore] = []

    async def open_one() -> MetadataStore:
        if request.param == "memory" and opened:
            return opened[0]
        if request.param == "memory":
            opened.append(MemoryStore(lambda: time.monotonic_ns() // 1_000_000))
        else:
            opened.append(await SqliteStore.open(tmp_path / "metadata.db"))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
async def node(open_store: OpenStore) -> AsyncIterator[Node]:
    node = await Node(await open_store()).start()
    yield node
    await node.stop()


async def test_start_is_quick_and_leaves_the_broker_unfenced(open_store: OpenStore) -> None:
    store = await open_store()
    started_s = time.perf_counter()
    node = await Node(store).start()
    assert time.perf_counter() - started_s < 10  # 20 ms on a quiet machine
    assert node.registration.is_active
    assert node.runner.is_controller
    assert node.image.controller_id == 1
    assert len(node.registration.cluster_id) == 22
    await node.stop()


async def test_topics_from_creation_to_deletion(node: Node) -> None:
    results = await node.admin.create_topics([NewTopic("a", 3), NewTopic("b"), NewTopic("a b")])
    assert [(r.name, r.error) for r in results] == [
        ("a", ErrorCode.NONE),
        ("b", ErrorCode.NONE),
        ("a b", ErrorCode.INVALID_TOPIC_EXCEPTION),
    ]
    # The image had it before the call returned.
    assert node.partition("a", 2).leader == 1
    (again,) = await node.admin.create_topics([NewTopic("a")])
    assert again.error is ErrorCode.TOPIC_ALREADY_EXISTS
    (grown,) = await node.admin.create_partitions([NewPartitions("a", 5)])
    assert grown.error is ErrorCode.NONE
    assert node.partition("a", 4).leader == 1
    set_config = ConfigAlteration("topic", "a", [ConfigOperation("retention.ms", ConfigOp.SET, "7")])
    (altered,) = await node.admin.alter_configs([set_config])
    assert altered.error is ErrorCode.NONE
    assert node.image.configs_of_topic("a") == {"retention.ms": "7"}
    topic_id = results[0].topic_id
    (deleted,) = await node.admin.delete_topics([topic_id])
    assert (deleted.name, deleted.error) == ("a", ErrorCode.NONE)
    assert node.image.topic("a") is None
    (gone,) = await node.admin.delete_topics([topic_id])
    assert gone.error is ErrorCode.UNKNOWN_TOPIC_ID
    assert [t.topic_id for t in node.image.deleting_topics()] == [topic_id]
    await node.admin.confirm_topic_dropped(topic_id, 1)
    await node.until(lambda: not list(node.image.hidden_topics()))
    assert [d.name for delta in node.deltas for d in delta.topics_deleted] == ["a"]


async def test_validate_only_changes_nothing(node: Node) -> None:
    before = node.image.revision
    (result,) = await node.admin.create_topics([NewTopic("t", 2)], validate_only=True)
    assert (result.error, result.partition_count) == (ErrorCode.NONE, 2)
    assert node.image.revision == before
    assert node.image.topic("t") is None


async def test_validate_only_changes_nothing_while_nobody_is_the_controller(node: Node) -> None:
    """The call waits until this broker is the controller; it is still only a question then."""
    await node.admin.create_topics([NewTopic("there")])
    may_acquire, acquire = asyncio.Event(), node.runner._acquire

    async def later() -> None:
        await may_acquire.wait()
        await acquire()

    node.runner._acquire = later  # type: ignore[method-assign]
    change = ConfigAlteration("topic", "there", [ConfigOperation("retention.ms", ConfigOp.SET, "7")])
    await node.store.txn(Txn((), (Delete(keys.CONTROLLER),)))
    await node.until(lambda: node.image.controller is None)
    asked = asyncio.gather(
        node.admin.create_topics([NewTopic("t", 2)], validate_only=True),
        node.admin.create_partitions([NewPartitions("there", 9)], validate_only=True),
        node.admin.alter_configs([change], validate_only=True),
    )
    await asyncio.sleep(0)
    may_acquire.set()
    assert [result.error for (result,) in await asked] == [ErrorCode.NONE] * 3
    assert node.image.topic("t") is None
    assert len(node.image.topics_by_name["there"].partitions) == 1
    assert node.image.configs_of_topic("there") == {}


async def test_many_calls_at_once(node: Node) -> None:
    calls = [node.admin.create_topics([NewTopic(f"t{n % 10}")]) for n in range(30)]
    results = [result for (result,) in await asyncio.gather(*calls)]
    assert sum(r.error is ErrorCode.NONE for r in results) == 10
    assert sum(r.error is ErrorCode.TOPIC_ALREADY_EXISTS for r in results) == 20
    assert len(node.image.topics_by_name) == 10


async def test_producer_id_blocks(node: Node) -> None:
    blocks = await asyncio.gather(*(node.admin.allocate_producer_ids() for _ in range(5)))
    assert sorted(blocks) == [(n * 1000, n * 1000 + 1000) for n in range(5)]


@pytest.mark.parametrize("clean", [True, False])
async def test_restart_raises_the_leader_epoch(open_store: OpenStore, clean: bool) -> None:
    store = await open_store()
    node = await Node(store).start()
    await node.admin.create_topics([NewTopic("t")])
    cluster_id, epoch = node.registration.cluster_id, node.registration.broker_epoch
    await node.stop(clean=clean)
    node = await Node(store, lossless_since=0, cluster_id=cluster_id).start()
    assert node.registration.broker_epoch > epoch
    await node.until(lambda: node.partition("t").leader == 1)
    assert node.partition("t").leader_epoch == 2
    assert node.partition("t").recovering is not clean
    await node.stop()


async def test_log_dirs_of_another_cluster_are_refused(open_store: OpenStore) -> None:
    store = await open_store()
    await (await Node(store).start()).stop()
    with pytest.raises(UserError, match="belong to cluster other"):
        await Node(store, cluster_id="other").start()


async def test_taken_broker_id_is_refused_in_one_line(open_store: OpenStore) -> None:
    node = await Node(await open_store()).start()
    second = Node(await open_store())
    with pytest.raises(
        UserError, match="broker id 1 is taken by a running broker at localhost:9093"
    ) as caught:
        await second.start()
    assert "\n" not in str(caught.value)
    await second.stop()
    assert node.registration.is_active
    await node.stop()


async def test_own_directories_take_a_dead_session_over_at_once(open_store: OpenStore) -> None:
    place = {"dirs": ("d1",), "boot_id": "boot", "host": "here"}
    died = await Node(await open_store(), **place, lossless_since=0).start()
    epoch = died.registration.broker_epoch
    await died.die()
    started_s = time.perf_counter()
    node = await Node(await open_store(), **place, cluster_id=died.registration.cluster_id).start()
    assert time.perf_counter() - started_s < 10  # half a session
    assert node.registration.broker_epoch > epoch
    assert node.runner.is_controller
    await died.feed.close()
    await node.stop()


async def test_one_own_directory_is_enough_to_take_over_if_it_can_be_used(open_store: OpenStore) -> None:
    place = {"boot_id": "boot", "host": "here"}
    died = await Node(await open_store(), **place, dirs=("d1", "d2")).start()
    await died.die()
    without = Node(await open_store(), **place, dirs=("d1", "d2"), offline_dirs=("d1", "d2"))
    with pytest.raises(UserError, match="is taken by a running broker"):
        await without.start()
    await without.stop()
    node = await Node(await open_store(), **place, dirs=("d2", "d3"), offline_dirs=("d3",)).start()
    found = node.image.brokers[1].registration
    assert found is not None and found.offline_dirs == ("d3",)
    await died.feed.close()
    await node.stop()


async def test_own_directories_of_another_boot_wait_for_the_end_of_the_lease(open_store: OpenStore) -> None:
    before = {"dirs": ("d1",), "boot_id": "before", "host": "here"}
    died = await Node(await open_store(), **before, session_timeout_ms=400).start()
    epoch = died.registration.broker_epoch
    await died.die()
    node = await Node(await open_store(), dirs=("d1",), boot_id="after", host="here").start()
    assert node.registration.broker_epoch > epoch
    await died.feed.close()
    await node.stop()


async def test_own_directories_of_another_boot_that_live_on_are_refused(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "WAIT_MARGIN_S", 0.1)
    node = await Node(await open_store(), dirs=("d1",), boot_id="one", host="one").start()
    second = Node(await open_store(), dirs=("d1",), boot_id="two", host="two", session_timeout_ms=400)
    with pytest.raises(UserError, match="broker id 1 is taken by a running broker"):
        await second.start()
    await second.stop()
    assert node.registration.is_active
    await node.stop()


async def test_who_is_replaced_stops_and_does_not_take_back(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copied directory: the older process learns that it is no longer the one."""
    monkeypatch.setattr(registration, "WAIT_MARGIN_S", 0.1)
    place = {"dirs": ("d1",), "boot_id": "boot", "host": "here"}
    older = await Node(await open_store(), **place, session_timeout_ms=500).start()
    replaced: list[UserError] = []
    older.registration._on_replaced = replaced.append
    newer = await Node(await open_store(), **place).start()
    async with asyncio.timeout(PATIENT_S):
        while not replaced:
            await asyncio.sleep(0.01)
    assert "is taken by a running broker" in str(replaced[0])
    assert newer.registration.is_active
    await older.stop()
    await newer.stop()


async def test_lost_lease_leads_to_a_new_registration(node: Node) -> None:
    await node.admin.create_topics([NewTopic("t")])
    old = node.registration.broker_epoch
    await node.store.revoke(node.registration.lease)
    await node.until(lambda: node.registration.broker_epoch > old and node.registration.is_active)
    await node.until(lambda: node.runner.is_controller and node.partition("t").leader == 1)
    state = node.partition("t")
    assert (state.leader_epoch, state.recovering) == (2, False)
    (result,) = await node.admin.create_topics([NewTopic("again")])
    assert result.error is ErrorCode.NONE


async def test_second_broker_takes_over(open_store: OpenStore) -> None:
    one = await Node(await open_store(), 1).start()
    two = await Node(await open_store(), 2).start()
    assert not two.runner.is_controller
    (refused,) = await two.admin.create_topics([NewTopic("t")])
    assert refused.error is ErrorCode.NOT_CONTROLLER
    shape = NewTopic("t", assignments=[(0, (1, 2))])
    await one.admin.create_topics([shape, replace(shape, name="u")])
    await two.until(lambda: two.image.topic("u") is not None)
    assert await one.registration.prepare_stop(5)
    await two.until(lambda: two.partition("t").leader == 2 and two.partition("u").leader == 2)
    assert two.partition("t").leader_epoch == 1
    await one.stop()
    await two.until(lambda: two.runner.is_controller)
    (created,) = await two.admin.create_topics([NewTopic("v")])
    assert created.error is ErrorCode.NONE
    await two.stop()


async def test_a_bug_in_a_subscriber_is_reported(open_store: OpenStore) -> None:
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    feed = MetadataFeed(await open_store(), on_failure=failed.set_result)
    await feed.start()

    def broken(delta: ImageDelta) -> None:
        raise AssertionError("a bug")

    feed.subscribe(broken)
    node = await Node(await open_store()).start()
    await node.stop()
    assert str(await asyncio.wait_for(failed, PATIENT_S)) == "a bug"
    assert not feed.is_current
    await feed.close()


class TestMemory:
    """Faults that only the memory store can produce at will."""

    @pytest.fixture
    async def store(self) -> AsyncIterator[MemoryStore]:
        store = MemoryStore(lambda: time.monotonic_ns() // 1_000_000)
        yield store
        await store.close()

    @pytest.fixture
    async def node(self, store: MemoryStore) -> AsyncIterator[Node]:
        node = await Node(store).start()
        yield node
        await node.stop()

    @pytest.mark.parametrize("applied", [True, False])
    async def test_unknown_outcomes_of_admin_calls(
        self, store: MemoryStore, node: Node, applied: bool
    ) -> None:
        store.lose_next_outcome(applied=applied)
        (created,) = await node.admin.create_topics([NewTopic("t")])
        assert created.error is ErrorCode.NONE
        assert node.partition("t").leader == 1
        topic = node.image.topic("t")
        assert topic is not None
        assert topic.topic_id == created.topic_id
        store.lose_next_outcome(applied=applied)
        (grown,) = await node.admin.create_partitions([NewPartitions("t", 2)])
        assert grown.error is ErrorCode.NONE
        store.lose_next_outcome(applied=applied)
        change = ConfigAlteration("topic", "t", [ConfigOperation("a", ConfigOp.SET, "1")])
        (altered,) = await node.admin.alter_configs([change])
        assert altered.error is ErrorCode.NONE
        assert node.image.configs_of_topic("t") == {"a": "1"}
        store.lose_next_outcome(applied=applied)
        assert await node.admin.allocate_producer_ids() == ((1000, 2000) if applied else (0, 1000))
        store.lose_next_outcome(applied=applied)
        (deleted,) = await node.admin.delete_topics([created.topic_id])
        assert deleted.error is ErrorCode.NONE
        assert node.image.topic("t") is None

    @pytest.mark.parametrize("applied", [True, False])
    async def test_unknown_outcome_of_the_registration(self, store: MemoryStore, applied: bool) -> None:
        first = Node(store)
        await first.feed.start()
        await store.txn(Txn((), (Put(keys.CLUSTER, b'{"v":1,"id":"c"}'),)))
        await first.feed.wait_for_revision(store.revision)
        store.lose_next_outcome(applied=applied)
        await first.registration.start()
        assert first.registration.broker_epoch == store.revision
        found = await store.get(keys.registration(1))
        assert found is not None and found.create_revision == first.registration.broker_epoch
        assert found.lease == first.registration.lease
        await first.stop()

    async def test_reload_after_compaction(self, store: MemoryStore) -> None:
        other = MetadataFeed(store)
        await other.start()
        node = await Node(store).start()
        deltas: list[ImageDelta] = []
        other.subscribe(deltas.append)
        # Stop it by hand, so that it is far behind when the history goes.
        assert other._task is not None
        await other._task.stop()
        await node.admin.create_topics([NewTopic("t", 2)])
        store.compact()
        other._task = other._background.forever("metadata feed", other._follow)
        await asyncio.wait_for(other.wait_for_revision(store.revision), PATIENT_S)
        reload = next(d for d in deltas if d.is_reload)
        assert [t.name for t in reload.topics_created] == ["t"]
        assert len(reload.partitions_changed) == 2
        await other.close()
        await node.stop()

    async def test_a_quiet_cluster_is_current_again_after_an_outage(
        self, store: MemoryStore, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(metadata_feed, "RETRY_S", 0.01)
        revision = store.revision
        for watch in tuple(store._watches):
            watch.fail(StoreUnavailable("away"))
        seen = []
        async with asyncio.timeout(PATIENT_S):
            while not seen or seen[-1] is False:
                await asyncio.sleep(0)
                seen.append(node.feed.is_current)
                seen = seen if False in seen else []
        assert store.revision == revision  # nothing happened that would have told
        await node.admin.create_topics([NewTopic("t")])
        assert node.partition("t").leader == 1

    async def test_a_store_that_goes_away_during_a_reload_is_tried_again(
        self, store: MemoryStore, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(metadata_feed, "RETRY_S", 0.01)
        answers = [StoreUnavailable("away")]
        ranged = store.range

        async def once_away(*args: Any) -> Any:
            if answers:
                raise answers.pop()
            return await ranged(*args)

        monkeypatch.setattr(store, "range", once_away)
        for watch in tuple(store._watches):
            watch.fail(Compacted(store.revision))
        await node.admin.create_topics([NewTopic("t")])
        assert not answers
        assert node.feed.is_current
        assert node.partition("t").leader == 1

    async def test_revisions_of_others_are_not_waited_for(self, store: MemoryStore, node: Node) -> None:
        """In a shared etcd the newest revision may be of a key that no watch of ours sees."""
        await store.txn(Txn((), (Put("of another program", b""),)))
        assert store.revision > node.image.revision
        store.lose_next_outcome(applied=False)
        (created,) = await node.admin.create_topics([NewTopic("t")], timeout_ms=5000)
        assert created.error is ErrorCode.NONE

    async def test_timeout_of_a_call(self, store: MemoryStore) -> None:
        idle = Node(store)
        await idle.feed.start()
        (result,) = await idle.admin.create_topics([NewTopic("t")], timeout_ms=10)
        assert result.error is ErrorCode.REQUEST_TIMED_OUT
        await idle.stop()
