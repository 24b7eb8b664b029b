"""Creating, growing and deleting topics: each answer field by field as Apache Kafka gives it, messages included."""

from __future__ import annotations

import time

import pytest

from tests.e2e.transcript import Scenario, Transcript, assert_same, versions
from tests.patience import PATIENT_S
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.wire.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from tierlog.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from tierlog.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic

SOMETHING = bytes(range(16))


def new(
    name: str,
    partitions: int = 1,
    replicas: int = 1,
    assignments: dict[int, list[int]] | None = None,
    **configs: str | None,
) -> CreatableTopic:
    """Configs with ``_`` for ``.``."""
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        assignments=[
            CreatableReplicaAssignment(partition_index=index, broker_ids=brokers)
            for index, brokers in (assignments or {}).items()
        ],
        configs=[
            CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()
        ],
    )


def create(t: Transcript, label: str, *topics: CreatableTopic) -> None:
    """In all versions, each first as a question only; what was created is deleted again."""
    for version in versions(19):
        for validate_only in (True, False):
            request = CreateTopicsRequest(topics=list(topics), timeout_ms=10_000, validate_only=validate_only)
            reply = t.ask(request, version)
            for answered in reply.topics:
                own = [row for row in answered.configs or () if row.config_source == 1]
                answered.configs = None if answered.configs is None else own
            t.keep(f"{label}, validate only {validate_only} v{version}", reply)
        for answered in reply.topics:
            if answered.error_code == ErrorCode.NONE:
                delete(t, answered.name)


def delete(t: Transcript, name: str) -> None:
    """And waits until the broker has forgotten it."""
    reply = t.ask(DeleteTopicsRequest(topic_names=[name], timeout_ms=10_000), 5)
    assert reply.responses[0].error_code == ErrorCode.NONE, reply
    await_gone(t, name)


def await_gone(t: Transcript, name: str) -> None:
    asked = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
    deadline = time.monotonic() + PATIENT_S
    while t.ask(asked).topics[0].error_code == ErrorCode.NONE:
        assert time.monotonic() < deadline, f"{name} does not go"
        time.sleep(0.005)


def create_valid(t: Transcript) -> None:
    t.compares_messages = True
    create(t, "one", new(t.topic("one")))
    create(t, "defaults", new(t.topic("defaults"), -1, -1))
    create(t, "several", new(t.topic("b"), 3), new(t.topic("a"), 2), new(t.topic("c")))
    create(
        t, "configs", new(t.topic("configs"), cleanup_policy="compact", retention_ms="-1", segment_ms="1000")
    )
    create(t, "manual", new(t.topic("manual"), -1, -1, {1: [1], 0: [1]}))
    create(t, "none at all")


def create_invalid(t: Transcript) -> None:
    t.compares_messages = True
    existing = t.create("a.b")[0]
    for label, name in (
        ("empty", ""),
        ("dot", "."),
        ("dots", ".."),
        ("space", "a b"),
        ("slash", "a/b"),
        ("umlaut", "ä"),
        ("long", "x" * 250),
        ("longest", t.topic("").ljust(249, "x")),
        ("cluster metadata", "__cluster_metadata"),
        ("existing", existing),
        ("colliding", existing.replace("a.b", "a_b")),
    ):
        create(t, f"name {label}", new(name))
    for partitions in (0, -2, 10_001, 2**31 - 1):
        create(t, f"partitions {partitions}", new(t.topic("p"), partitions))
    for replicas in (0, -2, 2, 3, 2**15 - 1):
        create(t, f"replicas {replicas}", new(t.topic("r"), 1, replicas))
    create(t, "partitions and replicas", new(t.topic("pr"), 0, 0))
    create(t, "bad name and partitions", new("a b", 0))
    create(t, "existing and bad", new(existing, 0))
    create(t, "one good, one bad", new(t.topic("good")), new(t.topic("bad"), 0))


def create_twice(t: Transcript) -> None:
    t.compares_messages = True
    t.ours_differs("collide", "Kafka looks for collisions with topics that exist, not within a request")
    create(t, "same", new(t.topic("twice")), new(t.topic("twice")))
    create(t, "different", new(t.topic("twice"), 2), new(t.topic("other")), new(t.topic("twice"), 3))
    create(t, "thrice", new(t.topic("thrice")), new(t.topic("thrice")), new(t.topic("thrice"), 0))
    create(t, "collide", new(t.topic("x.y")), new(t.topic("x_y")))


def create_assigned(t: Transcript) -> None:
    t.compares_messages = True
    cases: list[tuple[str, int, int, dict[int, list[int]]]] = [
        ("with partitions", 1, -1, {0: [1]}),
        ("with replicas", -1, 1, {0: [1]}),
        ("with both", 1, 1, {0: [1]}),
        ("no broker", -1, -1, {0: []}),
        ("unknown broker", -1, -1, {0: [7]}),
        ("negative broker", -1, -1, {0: [-1]}),
        ("broker twice", -1, -1, {0: [1, 1]}),
        ("gap", -1, -1, {0: [1], 2: [1]}),
        ("not from 0", -1, -1, {1: [1]}),
        ("negative partition", -1, -1, {-1: [1]}),
        ("uneven", -1, -1, {0: [1], 1: []}),
        ("uneven with unknown", -1, -1, {0: [1], 1: [1, 7]}),
    ]
    for label, partitions, replicas, assignments in cases:
        create(t, label, new(t.topic("assigned"), partitions, replicas, assignments))
    twice = new(t.topic("assigned"), -1, -1, {0: [1]})
    twice.assignments.append(twice.assignments[0])
    create(t, "partition twice", twice)


def create_configured(t: Transcript) -> None:
    t.ours_differs("throttled", "a config that is not honoured yet is refused")
    for label, configs in (
        ("unknown", {"unknown_config": "1"}),
        ("null", {"retention_ms": None}),
        ("unknown null", {"unknown_config": None}),
        ("empty number", {"retention_ms": ""}),
        ("not a number", {"retention_ms": "1h"}),
        ("below", {"retention_ms": "-2"}),
        ("segment too small", {"segment_bytes": "100"}),
        ("cleanup policy", {"cleanup_policy": "shrink"}),
        ("cleanup policies", {"cleanup_policy": "compact,delete"}),
        ("cleanup policy, empty", {"cleanup_policy": ""}),
        ("compression", {"compression_type": "rar"}),
        ("boolean", {"preallocate": "yes"}),
        ("timestamp type", {"message_timestamp_type": "logappendtime"}),
        ("min isr", {"min_insync_replicas": "0"}),
        ("min isr above replicas", {"min_insync_replicas": "5"}),
        ("ratio", {"min_cleanable_dirty_ratio": "1.5"}),
        ("local above total", {"retention_ms": "1000", "local_retention_ms": "2000"}),
        ("lags", {"max_compaction_lag_ms": "1", "min_compaction_lag_ms": "2"}),
        ("message format", {"message_format_version": "3.0"}),
    ):
        create(t, label, new(t.topic("configured"), **configs))
    twice = new(t.topic("configured"), retention_ms="5")
    twice.configs.append(CreatableTopicConfig(name="retention.ms", value="6"))
    create(t, "config twice", twice)
    for label, replicas in (("throttled", "0:1,1:1"), ("throttled all", "*"), ("throttled badly", "x")):
        create(t, label, new(t.topic("configured"), leader_replication_throttled_replicas=replicas))


def create_describes_configs(t: Transcript) -> None:
    """The effective configs of a new topic: names, values, sources."""
    t.ours_differs("flush.mode", "a config of our own")
    t.ours_differs("tierlog.", "configs of our own")
    t.ours_differs("min.insync.replicas", "Kafka's ELR feature keeps its default in the cluster's configs")
    for version in (5, 6, 7):
        request = CreateTopicsRequest(
            topics=[new(t.topic(f"v{version}"), retention_ms="7")], timeout_ms=10_000
        )
        reply = t.ask(request, version).topics[0]
        for row in reply.configs:
            t.keep(f"{row.name} v{version}", row)


def delete_topics(t: Transcript) -> None:
    t.compares_messages = True
    for version in range(1, 6):
        name = t.create(f"v{version}")[0]
        names = ["", "a b", t.topic("absent")]
        t.call("not there", DeleteTopicsRequest(topic_names=names, timeout_ms=10_000), version)
        t.call("one", DeleteTopicsRequest(topic_names=[name], timeout_ms=10_000), version)
        await_gone(t, name)
        t.call("again", DeleteTopicsRequest(topic_names=[name], timeout_ms=10_000), version)
        t.call("none", DeleteTopicsRequest(topic_names=[], timeout_ms=10_000), version)
        twice = t.create(f"twice-{version}")[0]
        t.call("twice", DeleteTopicsRequest(topic_names=[twice, twice], timeout_ms=10_000), version)
        absent = t.topic("absent")
        t.call(
            "absent twice",
            DeleteTopicsRequest(topic_names=[absent, twice, absent], timeout_ms=10_000),
            version,
        )


def delete_topics_by_id(t: Transcript) -> None:
    t.compares_messages = True

    def state(name: str | None, topic_id: bytes = bytes(16)) -> DeleteTopicState:
        return DeleteTopicState(name=name, topic_id=topic_id)

    def ask(label: str, *states: DeleteTopicState) -> None:
        t.call(label, DeleteTopicsRequest(topics=list(states), timeout_ms=10_000))

    one, one_id = t.create("one")
    two, two_id = t.create("two")
    ask("null name", state(None))
    ask("null name and good", state(None), state(t.create("good")[0]))
    ask("null names", state(None), state(None))
    ask("empty name", state(""))
    ask("unknown name", state(t.topic("absent")))
    ask("unknown id", state(None, SOMETHING))
    ask("unknown id twice", state(None, SOMETHING), state(None, SOMETHING))
    ask("unknown name twice", state(t.topic("absent")), state(t.topic("absent")))
    ask("name and id", state(one, one_id))
    ask("name and other id", state(one, two_id))
    ask("unknown name and id", state(t.topic("absent"), one_id))
    ask("name and unknown id", state(one, SOMETHING))
    ask("empty name and id", state("", one_id))
    ask("by name and by id", state(one), state(None, one_id))
    ask("by id twice", state(None, one_id), state(None, one_id))
    ask("name twice", state(one), state(one))
    ask("name twice and id", state(one), state(one), state(None, one_id))
    ask("name, both", state(one), state(one, one_id))
    ask("by id", state(None, one_id))
    ask("by name", state(two))
    await_gone(t, one)
    await_gone(t, two)
    ask("by id again", state(None, one_id))
    ask("none")


def create_partitions(t: Transcript) -> None:
    t.compares_messages = True
    two = t.create("two", 2)[0]
    other = t.create("other")[0]

    def grow(name: str, count: int, *assignments: list[int], manual: bool = False) -> CreatePartitionsTopic:
        rows = [CreatePartitionsAssignment(broker_ids=brokers) for brokers in assignments]
        return CreatePartitionsTopic(name=name, count=count, assignments=rows if rows or manual else None)

    def ask(label: str, *topics: CreatePartitionsTopic, validate_only: bool = True) -> None:
        for version in versions(37):
            request = CreatePartitionsRequest(
                topics=list(topics), timeout_ms=10_000, validate_only=validate_only
            )
            t.call(label, request, version)

    for count in (3, 2, 1, 0, -1, 10_003, 2**31 - 1):
        ask(f"to {count}", grow(two, count))
    ask("unknown", grow(t.topic("absent"), 3))
    ask("bad names", grow("", 3), grow("a b", 3))
    ask("none")
    ask("twice", grow(two, 3), grow(two, 4))
    ask("twice and other", grow(two, 3), grow(two, 4), grow(other, 2))
    ask("one good", grow(two, 2), grow(other, 2))
    ask("assigned", grow(two, 3, [1]))
    ask("assigned two", grow(two, 4, [1], [1]))
    ask("too few", grow(two, 4, [1]))
    ask("too many", grow(two, 3, [1], [1]))
    ask("no assignments", grow(two, 3, manual=True))
    ask("no broker", grow(two, 3, []))
    ask("unknown broker", grow(two, 3, [7]))
    ask("broker twice", grow(two, 3, [1, 1]))
    ask("two replicas", grow(two, 3, [1, 7]))
    ask("negative broker", grow(two, 3, [-1]))
    for version in versions(37):
        request = CreatePartitionsRequest(topics=[grow(two, 3 + version)], timeout_ms=10_000)
        t.call("really", request, version)
        t.await_ready(two, 3 + version)
    t.call("grown", MetadataRequest(topics=[MetadataRequestTopic(name=two)]))
    metadata = CreatePartitionsRequest(topics=[grow("__cluster_metadata", 3)], timeout_ms=10_000)
    t.every_version("cluster metadata", metadata)


SCENARIOS: list[Scenario] = [
    create_valid,
    create_invalid,
    create_twice,
    create_assigned,
    create_configured,
    create_describes_configs,
    delete_topics,
    delete_topics_by_id,
    create_partitions,
]


@pytest.mark.java
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_answers_as_kafka(scenario: Scenario, broker: BrokerProcess, apache: KafkaProcess) -> None:
    assert_same(scenario, broker, apache)
