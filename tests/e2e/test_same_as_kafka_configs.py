"""Configs: what may be asked, set and taken back, and what a change does, as in Apache Kafka."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.test_same_as_kafka_fetch import fetch_of, part
from tests.e2e.test_same_as_kafka_produce import batch, request_of
from tests.e2e.transcript import T0_MS, Scenario, Transcript, assert_same, versions
from tests.patience import PATIENT_S
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess
from tierlog.wire.messages import alter_configs as whole
from tierlog.wire.messages import incremental_alter_configs as incremental
from tierlog.wire.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from tierlog.wire.messages.delete_topics import DeleteTopicsRequest
from tierlog.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic

TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = range(4)
OUR_OWN = ("flush.mode", "tierlog.")
NOT_YET = ("leader.replication.", "follower.replication.")


def change_of(
    name: str,
    *changes: tuple[str, int, str | None],
    resource_type: int = TOPIC,
    validate_only: bool = False,
) -> incremental.IncrementalAlterConfigsRequest:
    configs = [
        incremental.AlterableConfig(name=key, config_operation=operation, value=value)
        for key, operation, value in changes
    ]
    resource = incremental.AlterConfigsResource(
        resource_type=resource_type, resource_name=name, configs=configs
    )
    return incremental.IncrementalAlterConfigsRequest(resources=[resource], validate_only=validate_only)


def describe_of(
    name: str, *keys: str, resource_type: int = TOPIC, synonyms: bool = False, documentation: bool = False
) -> DescribeConfigsRequest:
    resource = DescribeConfigsResource(
        resource_type=resource_type, resource_name=name, configuration_keys=list(keys) or None
    )
    return DescribeConfigsRequest(
        resources=[resource], include_synonyms=synonyms, include_documentation=documentation
    )


def describe(t: Transcript, label: str, request: DescribeConfigsRequest, version: int) -> None:
    """By name; of a documentation only whether there is one."""
    reply = t.ask(request, version)
    for result in reply.results:
        t.keep(f"{label} v{version}", [result.error_code, bool(result.error_message), result.resource_type])
        for row in result.configs:
            if not row.name.startswith(OUR_OWN):
                row.documentation = "<text>" if row.documentation else row.documentation
                t.keep(f"{label}, {row.name} v{version}", row)


def describe_topics(t: Transcript) -> None:
    t.ignore("synonyms")  # ours end at what server.properties says; Kafka's controller adds its own
    name = t.create("t", retention_ms="1000", cleanup_policy="compact,delete")[0]
    for label in ("all, min.insync.replicas", "documented, min.insync.replicas"):
        t.ours_differs(label, "Kafka's ELR feature keeps its default in the cluster's configs")
    for version in versions(32):
        describe(t, "all", describe_of(name), version)
        describe(t, "two", describe_of(name, "retention.ms", "segment.bytes"), version)
        describe(t, "unknown key", describe_of(name, "no.such.key", "retention.ms"), version)
        describe(t, "unknown topic", describe_of(t.topic("absent")), version)
        describe(t, "bad name", describe_of("a b"), version)
        describe(t, "empty name", describe_of(""), version)
        describe(t, "unknown broker", describe_of("77", resource_type=BROKER), version)
        describe(t, "broker that is no number", describe_of("x", resource_type=BROKER), version)
        describe(t, "unknown type", describe_of("x", resource_type=99), version)
        documented = describe_of(name, documentation=version >= 3)
        describe(t, "documented", documented, version)


def alter(t: Transcript) -> None:
    t.ours_differs("unknown operation", "Kafka fails on the number: UNKNOWN_SERVER_ERROR")
    name = t.create("t")[0]
    for label, changes in (
        ("set", [("retention.ms", SET, "5000")]),
        ("set two", [("retention.ms", SET, "6000"), ("segment.ms", SET, "7000")]),
        ("twice", [("retention.ms", SET, "6000"), ("retention.ms", SET, "7000")]),
        ("twice, set and delete", [("retention.ms", SET, "6000"), ("retention.ms", DELETE, None)]),
        ("null value", [("retention.ms", SET, None)]),
        ("delete", [("retention.ms", DELETE, None)]),
        ("delete what is not set", [("retention.ms", DELETE, None)]),
        ("delete with value", [("segment.ms", DELETE, "5")]),
        ("append", [("cleanup.policy", APPEND, "compact")]),
        ("append again", [("cleanup.policy", APPEND, "compact")]),
        ("subtract", [("cleanup.policy", SUBTRACT, "delete")]),
        ("subtract what is not there", [("cleanup.policy", SUBTRACT, "delete")]),
        ("append to no list", [("retention.ms", APPEND, "5")]),
        ("append nonsense", [("cleanup.policy", APPEND, "shrink")]),
        ("unknown operation", [("retention.ms", 9, "5")]),
        ("unknown key", [("no.such.key", SET, "5")]),
        ("delete unknown key", [("no.such.key", DELETE, None)]),
        ("bad value", [("retention.ms", SET, "soon")]),
        ("one good, one bad", [("segment.ms", SET, "9000"), ("retention.ms", SET, "soon")]),
        ("empty value", [("retention.ms", SET, "")]),
        ("no changes", []),
    ):
        for validate_only in (True, False):
            for version in versions(44):
                request = change_of(name, *changes, validate_only=validate_only)
                t.call(f"{label}, only asked {validate_only}", request, version)
    own = t.ask(describe_of(name), 4).results[0].configs
    t.keep("stands", sorted((row.name, row.value) for row in own if row.config_source == 1))
    for version in versions(44):
        t.call("unknown topic", change_of(t.topic("absent"), ("retention.ms", SET, "5")), version)
        t.call("bad name", change_of("a b", ("retention.ms", SET, "5")), version)
        t.call("empty name", change_of("", ("retention.ms", SET, "5")), version)
        t.call("unknown type", change_of(name, ("retention.ms", SET, "5"), resource_type=99), version)
        t.call("no resources", incremental.IncrementalAlterConfigsRequest(), version)
        twice = change_of(name, ("retention.ms", SET, "5"))
        twice.resources.append(twice.resources[0])
        t.call("resource twice", twice, version)


def replace(t: Transcript) -> None:
    """AlterConfigs: what is not named goes."""
    name = t.create("t", segment_ms="8000")[0]

    def request(*configs: tuple[str, str | None], topic: str = name, kind: int = TOPIC) -> Any:
        rows = [whole.AlterableConfig(name=key, value=value) for key, value in configs]
        resource = whole.AlterConfigsResource(resource_type=kind, resource_name=topic, configs=rows)
        return whole.AlterConfigsRequest(resources=[resource])

    for version in versions(33):
        t.call("null value", request(("retention.ms", None)), version)
        t.call("unknown key", request(("no.such.key", "5")), version)
        t.call("bad value", request(("retention.ms", "soon")), version)
        t.call("twice", request(("retention.ms", "5"), ("retention.ms", "6")), version)
        t.call("unknown topic", request(("retention.ms", "5"), topic=t.topic("absent")), version)
        t.call("bad name", request(("retention.ms", "5"), topic="a b"), version)
        t.call("empty name", request(("retention.ms", "5"), topic=""), version)
        t.call("unknown type", request(("retention.ms", "5"), kind=99), version)
        t.call("set", request(("retention.ms", "5000")), version)
    own = t.ask(describe_of(name), 4).results[0].configs
    t.keep("stands", sorted((row.name, row.value) for row in own if row.config_source == 1))
    t.every_version("nothing", request())
    own = t.ask(describe_of(name), 4).results[0].configs
    t.keep("nothing stands", sorted((row.name, row.value) for row in own if row.config_source == 1))


def message_size(t: Transcript) -> None:
    """A new max.message.bytes holds for the next produce."""
    topic = t.create("t")
    large = request_of([(*topic, [(0, batch("x" * 3000))])])
    t.call("before", large)
    for limit in (1000, 5000):
        t.call(f"to {limit}", change_of(topic[0], ("max.message.bytes", SET, str(limit))))
        wanted = 10 if limit == 1000 else 0
        deadline = time.monotonic() + PATIENT_S
        while True:
            reply = t.ask(large)
            if reply.responses[0].partition_responses[0].error_code == wanted:
                break
            assert time.monotonic() < deadline, reply
        # How often it took until then is the brokers' own affair.
        t.keep(f"after {limit}", reply.responses[0].partition_responses[0].error_code)


def a_topic_again(t: Transcript) -> None:
    """A deleted topic's id is unknown for good; its name may come back with another."""
    for label in ("in the session", "in the old session"):
        t.ours_differs(
            label, "Kafka's session remembers the name and looks for that; ours says that the id is unknown"
        )
    name, first = t.create("t", 2)
    t.ask(request_of([(name, first, [(0, batch("old"))])]))
    session = t.call("open", fetch_of(((name, first), [part()]), session_epoch=0)).session_id
    t.ask(DeleteTopicsRequest(topic_names=[name], timeout_ms=10_000), 5)
    asked = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
    while t.ask(asked).topics[0].error_code == 0:
        time.sleep(0.01)
    t.call("produce to the deleted", request_of([(name, first, [(0, batch("lost"))])]))
    t.call("fetch the deleted", fetch_of(((name, first), [part()])))
    t.call("in the session", fetch_of(session_id=session, session_epoch=1))
    name, second = t.create("t", 1)
    t.call("produce by the old id", request_of([(name, first, [(0, batch("lost"))])]))
    t.call("produce by name", request_of([(name, first, [(0, batch("new"))])]), 12)
    t.call("fetch by the old id", fetch_of(((name, first), [part()])))
    t.call("fetch by name", fetch_of(((name, first), [part()])), 12)
    t.call("fetch by the new id", fetch_of(((name, second), [part(), part(1)])))
    t.call("in the old session", fetch_of(session_id=session, session_epoch=2))


def grown(t: Transcript) -> None:
    """New partitions are empty, at epoch 0, and take records at once."""
    name, topic_id = t.create("t", 1)
    more = CreatePartitionsTopic(name=name, count=3, assignments=None)
    t.call("grow", CreatePartitionsRequest(topics=[more], timeout_ms=10_000))
    t.await_ready(name, 3)
    rows: list[tuple[int, bytes | None]] = [(index, batch("x")) for index in range(4)]
    t.call("produce", request_of([(name, topic_id, rows)]))
    t.call("fetch", fetch_of(((name, topic_id), [part(index) for index in range(4)])))


def segments(t: Transcript, label: str, topic: tuple[str, bytes]) -> None:
    """Names and sizes of the segments on disk."""
    directory = t.broker.log_dir / f"{topic[0]}-0"
    t.keep(label, sorted((path.name, path.stat().st_size) for path in directory.glob("*.log")))


def rolls(t: Transcript) -> None:
    """Where a segment ends: by size, and by the time of its records."""
    topic = t.create("bytes", segment_bytes="1048576")
    for size in (
        300_000,
        300_000,
        300_000,
        148_400,
        1,
        1_048_000,
        500,
        400,
        1_048_400,
        10,
        1_000_000,
        48_000,
    ):
        t.ask(request_of([(*topic, [(0, batch("x" * size))])]))
    segments(t, "by size", topic)
    for name, configs in (
        ("ms", {"segment_ms": "1000"}),
        ("stamped", {"segment_ms": "3600000", "message_timestamp_type": "LogAppendTime"}),
    ):
        topic = t.create(name, **configs)  # type: ignore[arg-type]
        for shift in (0, 500, 1000, 1001, 1002, 900, -5000, 2001, 2002, 2003, 9000, 9000, -9000, 10_001):
            t.ask(request_of([(*topic, [(0, batch("x", timestamp=T0_MS + shift))])]))
        segments(t, name, topic)
    topic = t.create("two-records", segment_ms="1000")
    for shift in (0, 999, 1000, 1998, 3000):
        t.ask(request_of([(*topic, [(0, batch("x", "y", timestamp=T0_MS + shift))])]))
    segments(t, "two records", topic)


SCENARIOS: list[Scenario] = [
    rolls,
    describe_topics,
    alter,
    replace,
    message_size,
    a_topic_again,
    grown,
]


@pytest.mark.java
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_answers_as_kafka(scenario: Scenario, broker: BrokerProcess, apache: KafkaProcess) -> None:
    assert_same(scenario, broker, apache)
