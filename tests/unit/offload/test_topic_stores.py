"""Topics with an object store of their own: what goes where, which stores are refused, and what stays as it was."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.offload.brokers import TIERED, Running, produce, until
from tests.unit.offload.test_fit import running
from tiering.errors import Misconfigured, ObjectStoreError
from tiering.keys import CLUSTER_MARKER, PartitionKeys, cluster_marker, topic_id_text
from tiering.objects.memory import MemoryStore
from tiering.objects.port import ObjectStore
from tierlog.broker.handlers import create_topics, incremental_alter_configs
from tierlog.broker.handlers.describe_configs import ResourceType
from tierlog.broker.offload.stores import topic_stores
from tierlog.broker.offload.stores.by_topic import StoreByTopic
from tierlog.broker.offload.stores.topic_stores import TopicStores
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import ErrorCode
from tierlog.metadata.control.configs import ConfigOp
from tierlog.metadata.control.topic_stores import STORES_MAX
from tierlog.wire.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from tierlog.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)

NAME = "tierlog.object.store"
GRACE = "tierlog.remote.delete.grace.ms=0"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierlog.broker.offload.driver.TICK_S", 0.01)
    monkeypatch.setattr("tierlog.broker.offload.driver.IDLE_RECHECK_MS", 20)
    monkeypatch.setattr("tierlog.broker.offload.cleaning.purge.TICK_S", 0.01)
    monkeypatch.setattr("tierlog.broker.offload.cleaning.sweeper.TICK_S", 0.01)


async def created(
    broker: Running, name: str, store: str | None, *, validate_only: bool = False, **more: str
) -> str | None:
    """Why the topic is refused; None where it is made. ``more``: configs, ``_`` for ``.``."""
    configs = dict(TIERED) if store is None else TIERED | {NAME: store}
    configs |= {key.replace("_", "."): value for key, value in more.items()}
    topic = CreatableTopic(
        name=name,
        num_partitions=1,
        replication_factor=1,
        configs=[CreatableTopicConfig(name=key, value=value) for key, value in configs.items()],
    )
    request = CreateTopicsRequest(topics=[topic], timeout_ms=30_000, validate_only=validate_only)
    context: Any = SimpleNamespace(api_version=7)
    answer = await create_topics.handle(broker.broker.services, context, request)
    (result,) = list(answer.topics)
    assert result.error_code in (ErrorCode.NONE, ErrorCode.INVALID_CONFIG), result
    return result.error_message if result.error_code else None


async def altered(broker: Running, name: str, value: str | None, *, config: str = NAME) -> str | None:
    """Why the topic cannot get this store (None: the brokers' own), or another config; None where it gets it."""
    op = ConfigOp.DELETE if value is None else ConfigOp.SET
    asked = AlterableConfig(name=config, config_operation=op, value=value)
    resource = AlterConfigsResource(resource_type=ResourceType.TOPIC, resource_name=name, configs=[asked])
    request = IncrementalAlterConfigsRequest(resources=[resource])
    context: Any = SimpleNamespace(api_version=1)
    answer = await incremental_alter_configs.handle(broker.broker.services, context, request)
    (result,) = answer.responses
    assert result.error_code in (ErrorCode.NONE, ErrorCode.INVALID_CONFIG), result
    return result.error_message if result.error_code else None


def names_in(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()} - {".lock"}


def of_topic(directory: Path, topic_id: bytes) -> set[str]:
    return {name for name in names_in(directory) if topic_id_text(topic_id) in name}


async def filled(broker: Running, name: str) -> tuple[Partition, bytes]:
    partition = await broker.leading(name)
    written = produce(partition, 50)
    await broker.tiered(partition)
    await until(lambda: partition.log.local_log_start_offset > 0)
    return partition, written


async def deleted(broker: Running, partition: Partition) -> None:
    (result,) = await broker.broker.services.admin.delete_topics([partition.topic_id])
    assert result.error is ErrorCode.NONE
    await until(lambda: not list(broker.broker.feed.image.deleting_topics()))


async def test_two_topics_in_two_directories(tmp_path: Path) -> None:
    ours, other = tmp_path / "objects", tmp_path / "other"
    async with running(tmp_path, GRACE) as broker:
        assert await created(broker, "a", None) is None
        assert await created(broker, "b", f"dir:{other}") is None
        a, of_a = await filled(broker, "a")
        b, of_b = await filled(broker, "b")
        workers = broker.tiering.mover._elsewhere
        assert workers.keys() == {"", f"dir:{other}"}
        assert len({worker.pid for worker in workers.values()}) == 2, "a process for each store"
        for partition, written in ((a, of_a), (b, of_b)):
            assert await broker.read_all(partition, 0) == written
        assert of_topic(ours, a.topic_id) and not of_topic(ours, b.topic_id)
        assert of_topic(other, b.topic_id) and not of_topic(other, a.topic_id)
        assert names_in(other) - of_topic(other, b.topic_id) == {CLUSTER_MARKER}
    async with running(tmp_path, GRACE) as broker:
        a, b = await broker.leading("a"), await broker.leading("b")
        assert await broker.read_all(b, 0) == of_b
        tier = await broker.tiered(b)
        await until(lambda: tier.sweeps.done_count > 0)
        assert await broker.broker.replicas.advance_log_start(b, 60) is ErrorCode.NONE
        before = of_topic(other, b.topic_id)
        tier.next_check_ms = 0
        await until(lambda: sum(".seg" in name for name in of_topic(other, b.topic_id)) < len(before) / 2)
        kept = of_topic(ours, a.topic_id)
        await deleted(broker, b)
        assert {name for name in of_topic(other, b.topic_id) if "/deleted/" not in name} == set()
        assert of_topic(ours, a.topic_id) == kept
        assert not of_topic(ours, b.topic_id)


async def test_a_topic_of_the_same_name_in_another_store(tmp_path: Path) -> None:
    """What the former one left goes from where it lies."""
    first, second = tmp_path / "first", tmp_path / "second"
    async with running(tmp_path, "tierlog.remote.delete.grace.ms=300") as broker:
        assert await created(broker, "t", f"dir:{first}") is None
        former, _ = await filled(broker, "t")
        (result,) = await broker.broker.services.admin.delete_topics([former.topic_id])
        assert result.error is ErrorCode.NONE
        assert await created(broker, "t", f"dir:{second}") is None
        partition, written = await filled(broker, "t")
        assert await broker.read_all(partition, 0) == written
        await until(lambda: not list(broker.broker.feed.image.deleting_topics()))
        assert [name for name in of_topic(first, former.topic_id) if "/deleted/" not in name] == []
        assert not of_topic(second, former.topic_id) and not of_topic(first, partition.topic_id)
        assert of_topic(second, partition.topic_id)


async def test_a_store_may_change_until_something_is_there(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    async with running(tmp_path, GRACE) as broker:
        assert await created(broker, "t", None) is None
        partition = await broker.leading("t")
        assert await altered(broker, "t", f"dir:{one}") is None
        assert await altered(broker, "t", f"dir:{two}") is None
        await filled(broker, "t")
        assert of_topic(two, partition.topic_id)
        assert not of_topic(one, partition.topic_id) | of_topic(tmp_path / "objects", partition.topic_id)
        before = dict(broker.broker.feed.image.topic_configs["t"])
        for store in (f"dir:{one}", f"dir:{tmp_path}/three", None):
            problem = await altered(broker, "t", store)
            assert problem is not None
            assert f"the tier of topic t lies in dir:{two}, and stays there; make a new topic" in problem
        assert broker.broker.feed.image.topic_configs["t"] == before
        assert not (tmp_path / "three").exists()
        # What a copy that came too late has left goes with the topic.
        for left in (one, tmp_path / "objects"):
            late = left / broker_keys(partition).segments_prefix / "late.seg"
            late.parent.mkdir(parents=True)
            late.touch()
        await deleted(broker, partition)
        assert not of_topic(one, partition.topic_id) | of_topic(tmp_path / "objects", partition.topic_id)


def broker_keys(partition: Partition) -> PartitionKeys:
    tier = partition.remote
    assert isinstance(tier, PartitionTier)
    return tier.keys


async def test_a_first_copy_and_a_change_of_the_store_cannot_both_happen(tmp_path: Path) -> None:
    """Past the look that the change begins with: the transactions themselves."""
    async with running(tmp_path) as broker:
        assert await created(broker, "t", None) is None
        partition, _ = await filled(broker, "t")
        broker.broker.services.store_gate = None
        request = altered(broker, "t", f"dir:{tmp_path}/one")
        with pytest.raises(AssertionError, match=r"REQUEST_TIMED_OUT|error_code=7"):
            await request
        record = broker.broker.feed.image.record_of(partition.topic_id)
        assert record is not None and record.store == ""


async def test_what_is_refused_at_create_and_at_alter(tmp_path: Path) -> None:
    foreign, used = tmp_path / "foreign", tmp_path / "used"
    (foreign / "meta").mkdir(parents=True)
    (foreign / CLUSTER_MARKER).write_bytes(cluster_marker("another"))
    (tmp_path / "file").touch()
    wrong = {
        f"dir:{foreign}": "the bucket belongs to cluster another, this broker to cluster",
        f"dir:{tmp_path}/file/x": "",
        f"dir:{used}/inner": f"it lies within dir:{used}, which this cluster uses: name a prefix beside it",
        f"dir:{tmp_path}": "which this cluster uses, lies within it: name a prefix beside it",
        f"dir:{used}/": f"this cluster uses it as dir:{used}: name it by that URL",
        f"dir:{tmp_path}/objects/inner": "it lies within dir:",
        "ftp://bucket": "expected dir: or s3: or gs: or memory: and where it is",
        "s3://bucket?regoin=x": "unknown option 'regoin'; did you mean 'region'?",
        "s3://key:word@bucket/x": "a user must not stand in a URL that is shown in logs: set AWS_ACCESS",
        "s3://bucket?secret.access.key=x": "secret.access.key must not stand in a URL",
    }
    async with running(tmp_path) as broker:
        assert await created(broker, "used", f"dir:{used}") is None
        assert await created(broker, "t", None) is None
        configs = dict(broker.broker.feed.image.topic_configs["t"])
        before = names_in(tmp_path / "objects") | names_in(foreign) | names_in(used)
        for url, says in wrong.items():
            for problem in (
                await created(broker, "new", url),
                await created(broker, "new", url, validate_only=True),
                await altered(broker, "t", url),
            ):
                assert problem is not None and says in problem, url
                assert "\n" not in problem and NAME in problem, problem
                assert "word" not in problem
        assert broker.broker.feed.image.topic("new") is None
        assert broker.broker.feed.image.topic_configs["t"] == configs
        assert names_in(tmp_path / "objects") | names_in(foreign) | names_in(used) == before


async def test_a_try_alone_claims_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        assert await created(broker, "t", f"dir:{tmp_path}/other", validate_only=True) is None
        assert not (tmp_path / "other").exists()


class Stubborn(MemoryStore):
    """Deletes nothing."""

    async def delete(self, keys: Any) -> dict[str, ObjectStoreError]:
        return {key: Misconfigured("retention is locked", key=key) for key in keys}


class Careless(MemoryStore):
    """Overwrites what it must not."""

    async def put(self, key: str, content: Any, *, if_absent: bool = False, **rest: Any) -> Any:
        return await super().put(key, content, **rest)


@pytest.mark.parametrize(
    ("store", "says"),
    [
        (Stubborn(), "objects cannot be deleted: .*retention is locked"),
        (Careless(), "a write that must not replace an object replaces it: .*use a server that honours"),
    ],
)
async def test_a_store_that_cannot_do_what_a_broker_needs_is_not_claimed(
    store: ObjectStore, says: str
) -> None:
    image: Any = SimpleNamespace(topic_stores=set, record_of=lambda topic_id: None)
    stores = TopicStores(
        "memory:", MemoryStore(), lambda: image, "c", lambda url, writes: store, lambda url: {}
    )
    with pytest.raises(Misconfigured, match=says):
        await stores.examine("memory:other", claims=True)
    assert CLUSTER_MARKER not in [info.key for info in await store.list("")]


class Opened:
    """Stores by URL; counts how often one is opened, and which are open."""

    def __init__(self) -> None:
        self.stores: dict[str, MemoryStore] = {}
        self.times: list[str] = []
        self.open: set[str] = set()
        self.used: set[str] = set()

    def __call__(self, url: str, writes: bool) -> ObjectStore:
        self.times.append(url)
        self.open.add(url)
        store = self.stores.setdefault(url, MemoryStore())

        async def close() -> None:
            self.open.discard(url)

        store.close = close  # type: ignore[method-assign]
        return store

    def topic_stores(self) -> TopicStores:
        image: Any = SimpleNamespace(topic_stores=lambda: self.used)
        return TopicStores("memory:", MemoryStore(), lambda: image, "c", self, lambda url: {})


async def test_a_url_is_opened_once_and_so_many_are_open_and_no_more() -> None:
    opened = Opened()
    stores = opened.topic_stores()
    for number in range(3 * STORES_MAX):
        url = f"memory:{number}"
        opened.used = {f"memory:{n}" for n in range(max(0, number - 3), number + 1)}
        await stores.examine(url, claims=True)
        opened.times.clear()
        assert await stores.opened(url) is await stores.opened(url)
        assert opened.times == [url, url]  # to look at it, and to use it
        assert len(opened.open) <= STORES_MAX and opened.used <= opened.open
    await stores.close()
    assert not opened.open


async def test_a_store_without_the_marker_is_not_where_our_segments_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = Opened()
    stores = opened.topic_stores()
    for _ in range(3):
        with pytest.raises(
            Misconfigured, match=r"^tierlog.object.store=memory:x: meta/cluster.json is not there"
        ):
            await stores.opened("memory:x")
    assert opened.times == ["memory:x"]  # left alone for a while
    assert await opened.stores["memory:x"].list("") == []
    monkeypatch.setattr(topic_stores, "RETRY_S", 0)
    marker = cluster_marker("c")
    await opened.stores["memory:x"].put(CLUSTER_MARKER, marker, size_bytes=len(marker))
    await stores.examine("memory:x", claims=True)
    assert await stores.opened("memory:x") is opened.stores["memory:x"]


async def test_a_cluster_has_so_many_stores_and_no_more(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        for number in range(STORES_MAX):
            assert await created(broker, f"t{number}", f"dir:{tmp_path}/store{number}") is None
        problem = await created(broker, "more", f"dir:{tmp_path}/more")
        assert problem is not None and "may have 16 stores beside the brokers' own" in problem
        assert await created(broker, "more", f"dir:{tmp_path}/store3") is None
        assert not (tmp_path / "more").exists()


async def test_one_store_that_is_away_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_stores, "RETRY_S", 0.05)
    away = tmp_path / "away"
    async with running(tmp_path, GRACE) as broker:
        assert await created(broker, "a", None) is None
        assert await created(broker, "b", f"dir:{away}") is None
        b, of_b = await filled(broker, "b")
    away.rename(tmp_path / "elsewhere")
    async with running(tmp_path, GRACE) as broker:
        a, of_a = await filled(broker, "a")
        assert await broker.read_all(a, 0) == of_a
        assert not away.exists()  # made anew by nobody
        await deleted(broker, a)
        (tmp_path / "elsewhere").rename(away)
        b = await broker.leading("b")
        assert await broker.read_all(b, 0) == of_b


async def test_one_delete_of_keys_of_several_topics() -> None:
    ids = [bytes([n]) * 16 for n in (1, 2, 3)]
    stores = {topic_id: MemoryStore() for topic_id in ids}
    first = MemoryStore()

    async def pick(topic_id: bytes) -> ObjectStore:
        return stores[topic_id]

    both = StoreByTopic(first, pick)
    keys = [PartitionKeys("c", topic_id, 0).head_copy(1) for topic_id in ids]
    for key in keys:
        await both.put(key, b"x", size_bytes=1)
    for store, key in zip(stores.values(), keys, strict=True):
        assert [info.key for info in await store.list("")] == [key]
    stores[ids[1]].held.add(keys[1])
    assert set(await both.delete(keys)) == {keys[1]}
    assert [len(await store.list("")) for store in stores.values()] == [0, 1, 0]
    assert await first.list("") == []
