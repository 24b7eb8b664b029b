"""Topics with an object store of their own, as far as the metadata decides."""

from __future__ import annotations

import pytest

from tests.unit.metadata.cluster import Cluster, topic_id
from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.commits import tier_head_change
from tierlog.metadata.control.configs import ConfigAlteration, ConfigOp, ConfigOperation, decide_alter_configs
from tierlog.metadata.control.topics import (
    NewPartitions,
    NewTopic,
    TopicDecision,
    decide_create_partitions,
    decide_create_topics,
    decide_delete_topics,
)
from tierlog.metadata.features import TOPIC_STORES
from tierlog.metadata.records import PartitionState, TopicRecord
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.transactions import Put, Txn

NAME = "tierlog.object.store"
RULES = TopicRules(remote_storage=True)


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(brokers=1)
    level(cluster, 2)
    cluster.topic("t", PartitionState(1, 0, (1,), (1,), 1))
    return cluster


def level(cluster: Cluster, number: int) -> None:
    cluster.put(Put(keys.FEATURES, records.encode_features({TOPIC_STORES: number} if number > 1 else {})))


def create(cluster: Cluster, name: str, store: str, n: int = 7) -> TopicDecision:
    topic = NewTopic(name, 2, 1, configs={NAME: store})
    (decision,) = decide_create_topics(
        cluster.image, RULES, [topic], new_topic_id=lambda: topic_id(n), start=0
    )
    return decision


def alter(cluster: Cluster, store: str | None) -> tuple[str | None, tuple[Txn, ...]]:
    op = ConfigOp.DELETE if store is None else ConfigOp.SET
    alteration = ConfigAlteration("topic", "t", [ConfigOperation(NAME, op, store)])
    (decision,) = decide_alter_configs(cluster.image, RULES, [alteration])
    return decision.result.message, decision.txns


def first_head(cluster: Cluster) -> Txn:
    return tier_head_change(
        topic_id(1),
        0,
        b"head",
        partition_epoch=cluster.partition().partition_epoch,
        head_revision=0,
        broker_id=1,
        broker_epoch=cluster.image.brokers[1].broker_epoch,
        topic_revision=cluster.image.topics_by_id[topic_id(1)].record_revision,
    )


def store_of(cluster: Cluster, n: int = 1) -> str:
    record = cluster.image.record_of(topic_id(n))
    assert record is not None
    return record.store


def test_the_record_keeps_it_through_growth_and_deletion(cluster: Cluster) -> None:
    for txn in create(cluster, "new", "dir:/a").txns:
        assert cluster.txn(txn).ok
    assert store_of(cluster, 7) == "dir:/a"
    (grown,) = decide_create_partitions(cluster.image, RULES, [NewPartitions("new", 3)], start=0)
    for txn in grown.txns:
        assert cluster.txn(txn).ok
    (gone,) = decide_delete_topics(cluster.image, RULES, [topic_id(7)])
    for txn in gone.txns:
        assert cluster.txn(txn).ok
    assert cluster.image.topic("new") is None
    assert store_of(cluster, 7) == "dir:/a"
    assert cluster.image.topic_stores() == {"dir:/a"}
    for txn in create(cluster, "new", "dir:/b", n=8).txns:
        assert cluster.txn(txn).ok
    assert (store_of(cluster, 7), store_of(cluster, 8)) == ("dir:/a", "dir:/b")


def test_records_of_earlier_versions() -> None:
    record = TopicRecord("t", 3)
    assert b"store" not in records.encode_topic(record)
    assert records.decode_topic(records.encode_topic(record)) == record
    stored = TopicRecord("t", 3, store="s3://b/p", former_stores=("", "dir:/a"))
    assert records.decode_topic(records.encode_topic(stored)) == stored


def test_a_first_head_and_a_change_exclude_each_other(cluster: Cluster) -> None:
    head = first_head(cluster)
    problem, (change,) = alter(cluster, "dir:/a")
    assert problem is None
    assert cluster.txn(change).ok
    assert store_of(cluster) == "dir:/a"
    assert cluster.image.configs_of_topic("t") == {NAME: "dir:/a"}
    refused = cluster.txn(head)  # made under the former record
    assert not refused.ok
    now = refused.gets[3]
    assert now is not None and records.decode_topic(now.value).store == "dir:/a"
    _, (back,) = alter(cluster, None)
    assert cluster.txn(first_head(cluster)).ok
    assert not cluster.txn(back).ok
    assert store_of(cluster) == "dir:/a"


def test_a_topic_with_very_many_partitions_keeps_its_store(cluster: Cluster) -> None:
    for count, refused in ((100, False), (101, True)):
        cluster.topic("t", *[PartitionState(1, 0, (1,), (1,), 1)] * count)
        problem, txns = alter(cluster, "dir:/a")
        assert (problem is not None and "make a new topic that has it from the start" in problem) == refused
        assert all(len(txn.compares) < 128 for txn in txns)  # etcd's limit
    assert bool(txns) != refused


def test_not_before_every_broker_knows_it(cluster: Cluster) -> None:
    level(cluster, 1)
    decision = create(cluster, "new", "dir:/a")
    problem, txns = alter(cluster, "dir:/a")
    assert (decision.result.error, decision.txns, txns) == (ErrorCode.INVALID_CONFIG, (), ())
    for line in (decision.result.message, problem):
        assert line is not None and "tierlog cluster features upgrade tierlog.topic.stores=2" in line
    assert create(cluster, "new", "").result.error is ErrorCode.NONE
