"""The image: equal to the store however it was fed, and deltas that tell the whole difference."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.unit.metadata.cluster import Cluster, Feed, at_once, topic_id
from tierlog.broker.cluster.metadata_feed import load_image
from tierlog.metadata import keys, records
from tierlog.metadata.image import ConfigChange, MetadataImage, difference
from tierlog.metadata.records import PartitionState, TopicRecord
from tierlog.metadata.transactions import Put


def state(leader: int = 1, epoch: int = 0) -> PartitionState:
    return PartitionState(leader, epoch, (leader,), (leader,), 1)


def contents(image: MetadataImage) -> dict[str, Any]:
    topics = {t.topic_id: (t.name, t.record, t.partitions) for t in image.topics_by_id.values()}
    fields = (
        "revision",
        "cluster_id",
        "controller",
        "brokers",
        "topic_configs",
        "broker_configs",
        "features",
    )
    return {name: getattr(image, name) for name in fields} | {"topics": topics}


def test_topic_appears_with_its_name() -> None:
    cluster = Cluster()
    key = keys.partition(topic_id(1), 0)
    delta = cluster.put(Put(key, records.encode_partition(state())))
    assert delta.is_empty
    assert cluster.image.topics_by_name == {}
    delta = cluster.topic("flights", state(), state())
    assert [t.name for t in delta.topics_created] == ["flights"]
    assert [(c.partition, c.old) for c in delta.partitions_changed] == [(0, None), (1, None)]
    assert cluster.image.topics_by_id[topic_id(1)] is cluster.image.topic("flights")
    cluster.image.check()


def test_partition_change_says_old_and_new() -> None:
    cluster = Cluster()
    cluster.topic("t", state())
    delta = cluster.put(Put(keys.partition(topic_id(1), 0), records.encode_partition(state(2, 1))))
    (change,) = delta.partitions_changed
    assert change.old is not None
    assert change.new is not None
    assert (change.old.leader, change.new.leader) == (1, 2)
    assert change.new.partition_epoch == delta.revision == cluster.image.revision


def test_deleted_topic_leaves_a_tombstone() -> None:
    cluster = Cluster()
    cluster.topic("t", state(), state())
    tombstone = TopicRecord("t", 2, deleting=True, pending=(1,))
    delta = cluster.put(Put(keys.topic(topic_id(1)), records.encode_topic(tombstone)))
    assert [(d.name, sorted(d.partitions)) for d in delta.topics_deleted] == [("t", [0, 1])]
    assert delta.tombstones_changed == [topic_id(1)]
    assert [t.record for t in cluster.image.deleting_topics()] == [tombstone]
    delta = cluster.delete(keys.partition(topic_id(1), 0), keys.partition(topic_id(1), 1))
    assert delta.partitions_changed == []
    cluster.delete(keys.topic_name("t"))
    delta = cluster.delete(keys.topic(topic_id(1)))
    assert delta.tombstones_changed == [topic_id(1)]
    assert list(cluster.image.hidden_topics()) == []


def test_name_moves_to_another_topic() -> None:
    cluster = Cluster()
    cluster.topic("t", state())
    delta = cluster.topic("t", state(), n=2)
    assert [d.topic_id for d in delta.topics_deleted] == [topic_id(1)]
    assert [t.topic_id for t in delta.topics_created] == [topic_id(2)]
    topic = cluster.image.topic("t")
    assert topic is not None
    assert topic.topic_id == topic_id(2)
    cluster.image.check()


def test_brokers_configs_and_the_rest() -> None:
    cluster = Cluster()
    epoch = cluster.register(1)
    broker = cluster.image.brokers[1]
    assert (broker.broker_epoch, broker.is_active, broker.is_available) == (epoch, True, True)
    newer = cluster.registration(1)
    assert newer > epoch
    assert not broker.is_handled
    delta = cluster.put(Put(keys.topic_config("t"), records.encode_configs({"retention.ms": "1"})))
    assert delta.configs_changed == [ConfigChange("topic", "t")]
    cluster.put(Put(keys.broker_config(""), records.encode_configs({"a": "1", "b": "1"})))
    cluster.put(Put(keys.broker_config("1"), records.encode_configs({"b": "2"})))
    assert cluster.image.broker_configs == {"": {"a": "1", "b": "1"}, "1": {"b": "2"}}
    cluster.delete(keys.topic_config("t"))
    assert cluster.image.configs_of_topic("t") == {}
    delta = cluster.delete(keys.registration(1), keys.broker_state(1))
    assert delta.brokers_changed == [1]
    assert cluster.image.brokers == {}


def random_change(cluster: Cluster, rng: random.Random) -> None:
    n = rng.randrange(4)
    kind = rng.choice(["topic", "partition", "delete", "config", "broker", "tombstone"])
    if kind == "topic":
        cluster.topic(f"t{n}", *(state() for _ in range(rng.randint(1, 3))), n=n)
    elif kind == "partition" and topic_id(n) in cluster.image.topics_by_id:
        key = keys.partition(topic_id(n), 0)
        cluster.put(Put(key, records.encode_partition(state(rng.randint(1, 3)))))
    elif kind == "delete" and topic_id(n) in cluster.image.topics_by_id:
        topic = cluster.image.topics_by_id[topic_id(n)]
        gone = [keys.partition(topic_id(n), i) for i in topic.partitions]
        cluster.delete(*gone, keys.topic(topic_id(n)), keys.topic_name(f"t{n}"))
    elif kind == "tombstone" and topic_id(n) in cluster.image.topics_by_id:
        record = records.encode_topic(TopicRecord(f"t{n}", 1, True, (1,)))
        cluster.put(Put(keys.topic(topic_id(n)), record))
        cluster.delete(keys.topic_name(f"t{n}"))
    elif kind == "config":
        cluster.configs(f"t{n}", retention_ms=str(rng.randrange(9)))
    elif kind == "broker":
        cluster.register(n, fenced=rng.random() < 0.5)


@pytest.mark.parametrize("seed", range(20))
def test_watched_equals_loaded_and_the_difference_leads_there(seed: int) -> None:
    rng = random.Random(seed)
    cluster = Cluster()
    behind = Feed(cluster.store)
    for _ in range(60):
        random_change(cluster, rng)
    loaded = at_once(load_image(cluster.store))
    assert contents(cluster.image) == contents(loaded)
    assert difference(cluster.image, loaded).is_empty
    behind.catch_up(rng.randrange(40))
    stale = {t.topic_id for t in behind.image.topics_by_name.values()}
    delta = behind.image.replace(loaded)
    assert delta.is_reload
    now = stale - {d.topic_id for d in delta.topics_deleted} | {t.topic_id for t in delta.topics_created}
    assert now == set(loaded.topics_by_id)
    assert contents(behind.image) == contents(cluster.image)
