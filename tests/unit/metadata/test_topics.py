"""Topic creation, growth and deletion: Kafka's codes and sentences, and what ends up in the store."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.metadata.cluster import Cluster, topic_id
from tierlog.errors import ErrorCode
from tierlog.metadata import keys
from tierlog.metadata.control.topics import (
    MAX_RECORDS_PER_REQUEST,
    NewPartitions,
    NewTopic,
    TopicDecision,
    confirm_dropped,
    decide_create_partitions,
    decide_create_topics,
    decide_delete_topics,
)
from tierlog.metadata.rules import InternalTopic, TopicRules
from tierlog.metadata.transactions import MAX_TXN_OPS


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(brokers=3)


def create(cluster: Cluster, *topics: NewTopic, rules: TopicRules | None = None) -> list[TopicDecision]:
    known = len(cluster.image.topics_by_id) + len(list(cluster.image.hidden_topics()))
    ids = iter(range(known + 1, 10_000))
    decisions = list(
        decide_create_topics(
            cluster.image, rules or cluster.rules, topics, new_topic_id=lambda: topic_id(next(ids)), start=0
        )
    )
    for decision in decisions:
        for txn in decision.txns:
            assert cluster.txn(txn).ok
    cluster.image.check()
    return decisions


def test_defaults(cluster: Cluster) -> None:
    rules = TopicRules(partition_count=4, replication_factor=3, min_insync_replicas=2)
    (decision,) = create(cluster, NewTopic("t", configs={"retention.ms": "5"}), rules=rules)
    assert decision.result.error is ErrorCode.NONE
    assert (decision.result.partition_count, decision.result.replication_factor) == (4, 3)
    topic = cluster.image.topic("t")
    assert topic is not None
    assert topic.topic_id == decision.result.topic_id
    for state in topic.partitions.values():
        assert state.leader == state.replicas[0]
        assert (state.isr, state.min_isr, state.leader_epoch) == (state.replicas, 2, 0)
    assert cluster.image.configs_of_topic("t") == {"retention.ms": "5"}


@pytest.mark.parametrize(
    ("topic", "error", "message"),
    [
        (
            NewTopic(""),
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            "Topic name is invalid: the empty string is not allowed",
        ),
        (NewTopic(".."), ErrorCode.INVALID_TOPIC_EXCEPTION, "Topic name is invalid: '..' is not allowed"),
        (
            NewTopic("a/b"),
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            "Topic name is invalid: 'a/b' contains one or more characters other than ASCII alphanumerics, '.', '_' "
            "and '-'",
        ),
        (NewTopic("ü"), ErrorCode.INVALID_TOPIC_EXCEPTION, None),
        (NewTopic("a" * 250), ErrorCode.INVALID_TOPIC_EXCEPTION, None),
        (NewTopic("__cluster_metadata"), ErrorCode.INVALID_REQUEST, None),
        (NewTopic("old.topic"), ErrorCode.TOPIC_ALREADY_EXISTS, "Topic 'old.topic' already exists."),
        (
            NewTopic("old_topic"),
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            "Topic 'old_topic' collides with existing topic: old.topic",
        ),
        (
            NewTopic("t", 0),
            ErrorCode.INVALID_PARTITIONS,
            "Number of partitions was set to an invalid non-positive value.",
        ),
        (NewTopic("t", -2), ErrorCode.INVALID_PARTITIONS, None),
        (NewTopic("t", 10_001), ErrorCode.POLICY_VIOLATION, None),
        (
            NewTopic("t", 1, 0),
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            NewTopic("t", 1, 4),
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be reached because "
            "only 3 broker(s) are registered or some brokers have all their log directories cordoned.",
        ),
        (NewTopic("t", 1, -1, ((0, (1,)),)), ErrorCode.INVALID_REQUEST, None),
        (NewTopic("t", -1, 1, ((0, (1,)),)), ErrorCode.INVALID_REQUEST, None),
        (NewTopic("t", assignments=((0, ()),)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, None),
        (NewTopic("t", assignments=((0, (9,)),)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, None),
        (NewTopic("t", assignments=((0, (1, 1)),)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, None),
        (NewTopic("t", assignments=((0, (1,)), (0, (2,)))), ErrorCode.INVALID_REPLICA_ASSIGNMENT, None),
        (NewTopic("t", assignments=((0, (1,)), (1, (1, 2)))), ErrorCode.INVALID_REPLICA_ASSIGNMENT, None),
        (
            NewTopic("t", assignments=((1, (1,)),)),
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "partitions should be a consecutive 0-based integer sequence",
        ),
        (NewTopic("t", configs={"retention.ms": None}), ErrorCode.INVALID_CONFIG, None),
        (NewTopic("t", configs={"bad": "x"}), ErrorCode.INVALID_CONFIG, "bad is bad"),
    ],
)
def test_refusals(cluster: Cluster, topic: NewTopic, error: ErrorCode, message: str | None) -> None:
    create(cluster, NewTopic("old.topic"))
    rules = TopicRules(validate_topic_configs=lambda new, old: [f"{n} is bad" for n in new if n == "bad"])
    (decision,) = create(cluster, topic, rules=rules)
    assert decision.result.error is error
    assert decision.txns == ()
    assert decision.result.message
    if message is not None:
        assert decision.result.message == message


def test_within_one_request(cluster: Cluster) -> None:
    decisions = create(cluster, NewTopic("a.b"), NewTopic("a_b"), NewTopic("x"), NewTopic("x"), NewTopic("y"))
    assert [(d.result.name, d.result.error) for d in decisions] == [
        ("a.b", ErrorCode.NONE),
        ("a_b", ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("x", ErrorCode.INVALID_REQUEST),
        ("y", ErrorCode.NONE),
    ]


def test_fenced_brokers() -> None:
    cluster = Cluster()
    (decision,) = create(cluster, NewTopic("t"))
    assert decision.result.error is ErrorCode.INVALID_REPLICATION_FACTOR
    cluster.register(1, fenced=True)
    (decision,) = create(cluster, NewTopic("t", assignments=((0, (1,)),)))
    assert decision.result.message == (
        "All brokers specified in the manual partition assignment for partition 0 are fenced or in controlled "
        "shutdown."
    )
    cluster.register(2)
    create(cluster, NewTopic("t", 4, 2))
    topic = cluster.image.topic("t")
    assert topic is not None
    assert all(s.leader == 2 and s.isr == (2,) for s in topic.partitions.values())


def test_internal_topic_has_its_own_shape_and_configs(cluster: Cluster) -> None:
    internal = InternalTopic(50, 5, {"cleanup.policy": "compact"})
    rules = TopicRules(internal_topics={"__consumer_offsets": internal})
    create(cluster, NewTopic("__consumer_offsets", configs={"cleanup.policy": "delete"}), rules=rules)
    topic = cluster.image.topic("__consumer_offsets")
    assert topic is not None
    assert (topic.partition_count, len(topic.partitions[0].replicas)) == (50, 3)
    assert cluster.image.configs_of_topic("__consumer_offsets") == {"cleanup.policy": "compact"}


def test_large_topic_is_named_last_and_an_interrupted_creation_is_swept_away(cluster: Cluster) -> None:
    (decision,) = decide_create_topics(
        cluster.image, cluster.rules, [NewTopic("big", 350)], new_topic_id=lambda: topic_id(1), start=0
    )
    assert len(decision.txns) == 4
    assert all(len(txn.then) < MAX_TXN_OPS for txn in decision.txns)
    for txn in decision.txns[:-1]:
        cluster.txn(txn)
    assert cluster.image.topics_by_name == {}
    cluster.reconcile()
    assert list(cluster.image.hidden_topics()) == []
    for txn in decision.txns:
        cluster.txn(txn)
    topic = cluster.image.topic("big")
    assert topic is not None
    assert len(topic.partitions) == 350


def test_of_two_creations_of_one_name_the_second_fails(cluster: Cluster) -> None:
    one, two = (
        list(
            decide_create_topics(
                cluster.image, cluster.rules, [NewTopic("t")], new_topic_id=lambda i=i: topic_id(i), start=0
            )
        )
        for i in (1, 2)
    )
    assert cluster.txn(one[0].txns[0]).ok
    assert not cluster.txn(two[0].txns[0]).ok


def grow(cluster: Cluster, *requests: NewPartitions) -> list[TopicDecision]:
    decisions = list(decide_create_partitions(cluster.image, cluster.rules, requests, start=0))
    for decision in decisions:
        for txn in decision.txns:
            assert cluster.txn(txn).ok
    cluster.image.check()
    return decisions


def test_growth(cluster: Cluster) -> None:
    create(cluster, NewTopic("t", 2, 2))
    (decision,) = grow(cluster, NewPartitions("t", 250))
    assert decision.result.error is ErrorCode.NONE
    topic = cluster.image.topic("t")
    assert topic is not None
    assert len(topic.partitions) == 250
    assert {len(s.replicas) for s in topic.partitions.values()} == {2}
    grow(cluster, NewPartitions("t", 251, [(3, 1)]))
    assert topic.partitions[250].replicas == (3, 1)


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (NewPartitions("no", 5), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None),
        (NewPartitions("t", 2), ErrorCode.INVALID_PARTITIONS, "Topic already has 2 partition(s)."),
        (
            NewPartitions("t", 1),
            ErrorCode.INVALID_PARTITIONS,
            "The topic t currently has 2 partition(s); 1 would not be an increase.",
        ),
        (
            NewPartitions("t", 4, [(1, 2)]),
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (NewPartitions("t", 3, [(1,)]), ErrorCode.INVALID_REPLICA_ASSIGNMENT, None),
        (NewPartitions("t", 3, [(1, 9)]), ErrorCode.INVALID_REPLICA_ASSIGNMENT, None),
        (NewPartitions("t", 20_000), ErrorCode.POLICY_VIOLATION, None),
    ],
)
def test_growth_refusals(
    cluster: Cluster, request_: NewPartitions, error: ErrorCode, message: str | None
) -> None:
    create(cluster, NewTopic("t", 2, 2))
    (decision,) = grow(cluster, request_)
    assert decision.result.error is error
    if message is not None:
        assert decision.result.message == message


def delete(cluster: Cluster, *ids: bytes, **rules: Any) -> list[TopicDecision]:
    decisions = list(decide_delete_topics(cluster.image, replace(cluster.rules, **rules), ids))
    for decision in decisions:
        for txn in decision.txns:
            assert cluster.txn(txn).ok
    return decisions


def test_deletion_is_visible_at_once_and_ends_when_all_have_dropped_the_data(cluster: Cluster) -> None:
    create(cluster, NewTopic("t", 2, 2, configs={"retention.ms": "5"}))
    (decision,) = delete(cluster, topic_id(1), remote_storage=True)
    assert decision.result.name == "t"
    assert cluster.image.topic("t") is None
    assert cluster.image.configs_of_topic("t") == {}
    create(cluster, NewTopic("t"))  # the name is free
    cluster.reconcile()
    (tombstone,) = cluster.image.deleting_topics()
    assert tombstone.partitions == {}
    assert tombstone.record is not None
    pending = tombstone.record.pending
    assert len(pending) >= 2
    for broker_id in pending:
        txn = confirm_dropped(tombstone, broker_id=broker_id)
        assert txn is not None
        cluster.txn(txn)
        assert confirm_dropped(tombstone, broker_id=broker_id) is None
        cluster.reconcile()
        assert list(cluster.image.deleting_topics())
    txn = confirm_dropped(tombstone, tier=True)
    assert txn is not None
    cluster.txn(txn)
    cluster.reconcile()
    assert list(cluster.image.hidden_topics()) == []


def test_deletion_does_not_wait_for_a_broker_that_left_for_good(cluster: Cluster) -> None:
    create(cluster, NewTopic("t", assignments=((0, (3,)),)))
    delete(cluster, topic_id(1))
    cluster.delete(keys.registration(3), keys.broker_state(3))
    cluster.reconcile()
    assert list(cluster.image.hidden_topics()) == []


def test_deletion_refusals(cluster: Cluster) -> None:
    (decision,) = delete(cluster, topic_id(9))
    assert decision.result.error is ErrorCode.UNKNOWN_TOPIC_ID
    create(cluster, NewTopic("t"))
    (decision,) = delete(cluster, topic_id(1), deletion_enabled=False)
    assert decision.result.error is ErrorCode.TOPIC_DELETION_DISABLED


def refusals(decisions: list[TopicDecision]) -> Counter[tuple[ErrorCode, str | None]]:
    return Counter((decision.result.error, decision.result.message) for decision in decisions)


def test_many_names_are_looked_at_once_each(cluster: Cluster) -> None:
    """It was 14 s for 8,000 names."""
    names = [NewTopic(f"n{n}") for n in range(30_000)] + [NewTopic("n7"), NewTopic("n7")]
    started_s = time.thread_time()
    decisions = create(cluster, *names)
    assert time.thread_time() - started_s < 5
    too_much = (ErrorCode.POLICY_VIOLATION, "Unable to perform excessively large batch operation.")
    assert refusals(decisions) == {too_much: 29_999, (ErrorCode.INVALID_REQUEST, "Duplicate topic name."): 1}


def test_a_request_writes_a_bounded_number_of_records(cluster: Cluster) -> None:
    too_much = [NewTopic(f"n{n}", 1) for n in range(MAX_RECORDS_PER_REQUEST // 2 + 1)]
    assert {error for error, _ in refusals(create(cluster, *too_much))} == {ErrorCode.POLICY_VIOLATION}
    wide = [NewTopic(f"w{n}", 2_000) for n in range(6)]
    assert {error for error, _ in refusals(create(cluster, *wide))} == {ErrorCode.POLICY_VIOLATION}
    assert not cluster.image.topics_by_name
    huge = create(cluster, NewTopic("huge", 2**31 - 1), NewTopic("t", 1))
    assert [decision.result.error for decision in huge] == [ErrorCode.POLICY_VIOLATION, ErrorCode.NONE]


def test_a_request_adds_a_bounded_number_of_partitions(cluster: Cluster) -> None:
    create(cluster, *(NewTopic(f"t{n}", 1) for n in range(3)))
    grown = grow(cluster, *(NewPartitions(f"t{n}", 5_001) for n in range(3)))
    assert [d.result.error for d in grown] == [ErrorCode.NONE, ErrorCode.NONE, ErrorCode.POLICY_VIOLATION]
