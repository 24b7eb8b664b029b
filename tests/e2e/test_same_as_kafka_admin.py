"""The administration of a cluster: each answer field by field as Apache Kafka gives it, in every version."""

from __future__ import annotations

import pytest

from tests.e2e.transcript import Scenario, Transcript, assert_same, versions
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess
from tierlog.records.records import Record, build_batch
from tierlog.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from tierlog.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from tierlog.wire.messages.describe_producers import DescribeProducersRequest, TopicRequest
from tierlog.wire.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
)
from tierlog.wire.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from tierlog.wire.messages.init_producer_id import InitProducerIdRequest
from tierlog.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from tierlog.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tierlog.wire.messages.unregister_broker import UnregisterBrokerRequest
from tierlog.wire.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from tierlog.wire.schema import EncodeError

METADATA_TOPIC = "__cluster_metadata"


def alter_reassignments(t: Transcript) -> None:
    t.compares_messages = True
    known, _ = t.create("known", 2)
    cases: list[tuple[str, str, dict[int, list[int] | None]]] = [
        ("as it is", known, {0: [1]}),
        ("nobody", known, {0: []}),
        ("twice", known, {0: [1, 1]}),
        ("unknown broker", known, {0: [7]}),
        ("unknown broker beside", known, {0: [1, 7]}),
        ("negative broker", known, {0: [-1]}),
        ("cancel nothing", known, {0: None}),
        ("unknown partition", known, {5: [1]}),
        ("negative partition", known, {-1: [1]}),
        ("cancel unknown partition", known, {5: None}),
        ("unknown topic", t.topic("unknown"), {0: [1]}),
        ("cancel unknown topic", t.topic("unknown"), {0: None}),
        ("several", known, {0: [1], 1: [7], 2: [1]}),
        ("no partition", known, {}),
        ("no topic name", "", {0: [1]}),
    ]
    for label, name, partitions in cases:
        rows = [ReassignablePartition(partition_index=n, replicas=r) for n, r in partitions.items()]
        topic = ReassignableTopic(name=name, partitions=rows)
        t.every_version(label, AlterPartitionReassignmentsRequest(topics=[topic], timeout_ms=10_000))
        held = AlterPartitionReassignmentsRequest(
            topics=[topic], timeout_ms=10_000, allow_replication_factor_change=False
        )
        t.call(f"{label}, factor held", held)
    t.every_version("no topic", AlterPartitionReassignmentsRequest(topics=[]))


def list_reassignments(t: Transcript) -> None:
    known, _ = t.create("known", 2)
    for label, names in (
        ("all", None),
        ("none", []),
        ("known", [known]),
        ("unknown", [t.topic("unknown")]),
        ("both", [known, t.topic("unknown")]),
    ):
        topics = None
        if names is not None:
            topics = [ListPartitionReassignmentsTopics(name=n, partition_indexes=[0, 7]) for n in names]
        t.every_version(label, ListPartitionReassignmentsRequest(topics=topics, timeout_ms=10_000))


def elect_leaders(t: Transcript) -> None:
    t.compares_messages = True
    known, _ = t.create("known", 2)
    unknown = t.topic("unknown")
    for kind in (0, 1, 9, -1):
        for label, rows in (
            ("none", {}),
            ("known", {known: [0, 1]}),
            ("unknown partition", {known: [0, 5, -1]}),
            ("unknown topic", {unknown: [0]}),
            ("no partition", {known: []}),
        ):
            topics = [TopicPartitions(topic=name, partitions=parts) for name, parts in rows.items()]
            request = ElectLeadersRequest(election_type=kind, topic_partitions=topics, timeout_ms=10_000)
            t.every_version(f"kind {kind}, {label}", request)
        for version in versions(ElectLeadersRequest.API_KEY):
            try:
                reply = t.ask(ElectLeadersRequest(election_type=kind, topic_partitions=None), version)
            except EncodeError:
                continue
            # The brokers are shared: what other tests left there is none of this scenario.
            mine = [row for row in reply.replica_election_results if row.topic == known]
            has_any = bool(reply.replica_election_results)
            t.keep(f"kind {kind}, all v{version}", [reply.error_code, has_any, mine])


def describe_producers(t: Transcript) -> None:
    known, _ = t.create("known", 2)
    t.await_producer_ids()
    producer = t.ask(InitProducerIdRequest(transactional_id=None))
    for count in (2, 1):
        records = [Record(b"k", b"v")] * count
        batch = build_batch(
            records, producer_id=producer.producer_id, producer_epoch=0, base_sequence=0 if count == 2 else 2
        )
        rows = [PartitionProduceData(index=0, records=bytes(batch))]
        data = [TopicProduceData(name=known, partition_data=rows)]
        reply = t.ask(ProduceRequest(acks=-1, timeout_ms=10_000, topic_data=data), 12)
        assert reply.responses[0].partition_responses[0].error_code == 0, reply
    for label, name, partitions in (
        ("known", known, [0, 1]),
        ("unknown partition", known, [0, 7, -1]),
        ("unknown topic", t.topic("unknown"), [0]),
        ("bad name", "a/b", [0]),
        ("no partition", known, []),
    ):
        topic = TopicRequest(name=name, partition_indexes=partitions)
        t.every_version(label, DescribeProducersRequest(topics=[topic]))
    t.every_version("no topic", DescribeProducersRequest(topics=[]))


def alter_replica_log_dirs(t: Transcript) -> None:
    known, _ = t.create("known", 2)
    here = str(t.broker.log_dir)
    for label, path, name, partitions in (
        ("where it is", here, known, [0, 1]),
        ("unknown directory", "/nowhere", known, [0]),
        ("relative", "logs", known, [0]),
        ("no directory", "", known, [0]),
        ("unknown topic", here, t.topic("unknown"), [0]),
        ("unknown partition", here, known, [0, 7]),
        ("bad name", here, "a/b", [0]),
        ("unknown topic, unknown directory", "/nowhere", t.topic("unknown"), [0]),
        ("no partition", here, known, []),
    ):
        topics = [AlterReplicaLogDirTopic(name=name, partitions=partitions)]
        t.every_version(
            label, AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=path, topics=topics)])
        )
    t.every_version("nothing", AlterReplicaLogDirsRequest(dirs=[]))


def unregister_broker(t: Transcript) -> None:
    t.compares_messages = True
    for broker_id in (7, -1):
        t.every_version(f"broker {broker_id}", UnregisterBrokerRequest(broker_id=broker_id))


def update_features(t: Transcript) -> None:
    t.compares_messages = True
    cases: list[tuple[str, list[FeatureUpdateKey]]] = [
        ("nothing", []),
        ("unknown", [FeatureUpdateKey(feature="unknown", max_version_level=1)]),
        ("negative", [FeatureUpdateKey(feature="unknown", max_version_level=-1)]),
        ("away", [FeatureUpdateKey(feature="unknown", max_version_level=0, upgrade_type=2)]),
        ("kind", [FeatureUpdateKey(feature="unknown", max_version_level=1, upgrade_type=0)]),
        ("strange kind", [FeatureUpdateKey(feature="unknown", max_version_level=1, upgrade_type=9)]),
    ]
    for label, rows in cases:
        t.every_version(label, UpdateFeaturesRequest(feature_updates=rows, timeout_ms=10_000))
        request = UpdateFeaturesRequest(feature_updates=rows, timeout_ms=10_000, validate_only=True)
        for version in versions(57)[1:]:
            t.call(f"{label}, only checked", request, version)


def update_known_features(t: Transcript) -> None:
    """A feature that each has at level 2 of 2; its name and its lowest level differ."""
    name, low = ("transaction.version", 0) if t.is_kafka else ("tierlog.tier.format", 1)
    up, safe, unsafe = 1, 2, 3
    cases: list[tuple[str, list[tuple[str, int, int]]]] = [
        ("as it is", [(name, 2, up)]),
        ("as it is, down", [(name, 2, safe)]),
        ("too high", [(name, 3, up)]),
        ("far too high", [(name, 32767, up)]),
        ("down without saying so", [(name, 1, up)]),
        ("up by a downgrade", [(name, 3, unsafe)]),
        ("negative", [(name, -1, unsafe)]),
        ("kind", [(name, 2, 0)]),
        ("one of two", [(name, 2, up), ("unknown", 1, up)]),
        ("twice", [(name, 2, up), (name, 2, up)]),
        ("twice, one wrong", [(name, 3, up), (name, 2, up)]),
        ("twice, the other wrong", [(name, 2, up), (name, 3, up)]),
        ("unknown twice", [("unknown", 1, up), ("unknown", 2, up)]),
    ]
    for label, updates in cases:
        for version in versions(57):
            for only_checked in (False, True)[: 1 + (version > 0)]:
                rows = [
                    FeatureUpdateKey(feature=f, max_version_level=level, upgrade_type=kind if version else 1)
                    for f, level, kind in updates
                ]
                reply = t.ask(
                    UpdateFeaturesRequest(
                        feature_updates=rows, timeout_ms=10_000, validate_only=only_checked
                    ),
                    version,
                )
                said = (reply.error_message or "").replace(name, "<name>").replace(f"{low}-2", "<range>")
                results = [
                    (r.feature.replace(name, "<name>"), r.error_code, r.error_message) for r in reply.results
                ]
                t.keep(f"{label} v{version} {only_checked}", [reply.error_code, said, results])


def describe_quorum(t: Transcript) -> None:
    for label, name, partitions in (
        ("another topic", "other", [0]),
        ("another partition", METADATA_TOPIC, [1]),
        ("two partitions", METADATA_TOPIC, [0, 1]),
        ("no partition", METADATA_TOPIC, []),
    ):
        rows = [DescribeQuorumRequestPartitionData(partition_index=n) for n in partitions]
        topics = [DescribeQuorumRequestTopicData(topic_name=name, partitions=rows)]
        t.every_version(label, DescribeQuorumRequest(topics=topics))
    t.every_version("no topic", DescribeQuorumRequest(topics=[]))
    rows = [DescribeQuorumRequestPartitionData(partition_index=0)]
    topics = [DescribeQuorumRequestTopicData(topic_name=METADATA_TOPIC, partitions=rows)]
    for version in versions(55):
        reply = t.ask(DescribeQuorumRequest(topics=topics), version)
        row = reply.topics[0].partitions[0]
        voters = [voter.replica_id for voter in row.current_voters]
        nodes = [node.node_id for node in reply.nodes]
        known = [voter.log_end_offset >= 0 for voter in row.current_voters]
        t.keep(f"v{version}", [reply.error_code, row.error_code, row.leader_id, voters, nodes, known])
        t.keep(f"v{version} times", [voter.last_caught_up_timestamp > 0 for voter in row.current_voters])


SCENARIOS: list[Scenario] = [
    alter_reassignments,
    list_reassignments,
    elect_leaders,
    describe_producers,
    alter_replica_log_dirs,
    unregister_broker,
    update_features,
    update_known_features,
    describe_quorum,
]


@pytest.mark.java
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_answers_as_kafka(scenario: Scenario, broker: BrokerProcess, apache: KafkaProcess) -> None:
    assert_same(scenario, broker, apache)
