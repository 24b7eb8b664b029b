"""null, the empty array, and a name with nothing behind it are three questions: each nullable array of each API that is
served, and each empty array, beside Apache Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.transcript import Scenario, Transcript, assert_same, versions
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess
from tierlog.broker import api_table
from tierlog.wire.messages.alter_configs import AlterConfigsRequest, AlterConfigsResource
from tierlog.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from tierlog.wire.messages.alter_replica_log_dirs import AlterReplicaLogDirsRequest
from tierlog.wire.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from tierlog.wire.messages.create_topics import CreateTopicsRequest
from tierlog.wire.messages.delete_groups import DeleteGroupsRequest
from tierlog.wire.messages.delete_records import DeleteRecordsRequest, DeleteRecordsTopic
from tierlog.wire.messages.delete_topics import DeleteTopicsRequest
from tierlog.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from tierlog.wire.messages.describe_groups import DescribeGroupsRequest
from tierlog.wire.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from tierlog.wire.messages.describe_producers import DescribeProducersRequest, TopicRequest
from tierlog.wire.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from tierlog.wire.messages.fetch import FetchRequest
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest
from tierlog.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from tierlog.wire.messages.leave_group import LeaveGroupRequest
from tierlog.wire.messages.list_config_resources import ListConfigResourcesRequest
from tierlog.wire.messages.list_groups import ListGroupsRequest
from tierlog.wire.messages.list_offsets import ListOffsetsRequest, ListOffsetsTopic
from tierlog.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tierlog.wire.messages.offset_delete import OffsetDeleteRequest
from tierlog.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from tierlog.wire.messages.offset_for_leader_epoch import OffsetForLeaderEpochRequest
from tierlog.wire.messages.produce import ProduceRequest
from tierlog.wire.schema import Struct, fields_of, struct_named

TOPIC, BROKER = 2, 4
# Each has its rows below.
NULLABLE = {
    "Metadata.topics",
    "OffsetFetch.topics",
    "OffsetFetch.groups.topics",
    "DescribeConfigs.resources.configuration_keys",
    "DescribeLogDirs.topics",
    "CreatePartitions.topics.assignments",
    "ElectLeaders.topic_partitions",
    "AlterPartitionReassignments.topics.partitions.replicas",
    "ListPartitionReassignments.topics",
}


def nullable_arrays(struct: type[Struct], path: str) -> Iterator[str]:
    for known in fields_of(struct):
        name = f"{path}.{known.name}"
        if known.kind.startswith("[]") and known.nullable.first <= known.nullable.last:
            yield name
        element = (
            struct_named(struct, known.element) if known.element and known.element[0].isupper() else None
        )
        if element is not None:
            yield from nullable_arrays(element, name)


def test_every_nullable_array_is_known_here() -> None:
    found = {
        name for row in api_table.ROWS.values() for name in nullable_arrays(row.spec.request, row.spec.name)
    }
    assert found == NULLABLE


def metadata(t: Transcript) -> None:
    name, _ = t.create("t")
    for version in versions(3):
        for label, topics in (
            ("null", None),
            ("empty", []),
            ("one", [MetadataRequestTopic(name=name)]),
        ):
            if topics is None and version == 0:
                continue
            reply = t.ask(MetadataRequest(topics=topics, allow_auto_topic_creation=version < 4), version)
            t.keep(f"{label} v{version}", [name in [row.name for row in reply.topics], len(reply.topics) > 0])


def configs(t: Transcript) -> None:
    """Kafka takes no keys at all for all of them."""
    name, _ = t.create("t")
    for version in versions(32):
        for kind, entity in ((TOPIC, name), (BROKER, "1"), (BROKER, "")):
            for label, keys in (
                ("null", None),
                ("empty", []),
                ("one", ["retention.ms" if kind == TOPIC else "log.retention.ms"]),
                ("unknown", ["no.such.key"]),
                ("empty name", [""]),
                ("twice", ["retention.ms", "retention.ms"]),
            ):
                resource = DescribeConfigsResource(
                    resource_type=kind, resource_name=entity, configuration_keys=keys
                )
                (result,) = t.ask(DescribeConfigsRequest(resources=[resource]), version).results
                said = len(result.configs) if label not in ("null", "empty") else len(result.configs) > 20
                t.keep(f"{label}, {kind} {entity[:1]}, v{version}", [result.error_code, said])
        t.call("no resources", DescribeConfigsRequest(), version)


def offsets(t: Transcript) -> None:
    name, _ = t.create("t", 2)
    t.await_coordinator()
    group = t.topic("g")
    rows = [OffsetCommitRequestPartition(partition_index=0, committed_offset=7)]
    commit = OffsetCommitRequest(
        group_id=group,
        generation_id_or_member_epoch=-1,
        topics=[OffsetCommitRequestTopic(name=name, partitions=rows)],
    )
    t.call("commit", commit, 8)
    for version in range(1, 8):
        for label, topics in (
            ("null", None),
            ("empty", []),
            ("no partitions", [OffsetFetchRequestTopic(name=name)]),
            ("one", [OffsetFetchRequestTopic(name=name, partition_indexes=[0, 1])]),
            ("unknown", [OffsetFetchRequestTopic(name=t.topic("absent"), partition_indexes=[0])]),
        ):
            for who in (group, t.topic("nobody")):
                if topics is not None or version > 1:
                    t.call(
                        f"{label}, {who == group}", OffsetFetchRequest(group_id=who, topics=topics), version
                    )
    for version in (8, 9):
        t.call("no groups", OffsetFetchRequest(groups=[]), version)
        for label, asked in (
            ("null", None),
            ("empty", []),
            ("no partitions", [OffsetFetchRequestTopics(name=name)]),
            ("one", [OffsetFetchRequestTopics(name=name, partition_indexes=[0, 1])]),
        ):
            for who in (group, t.topic("nobody")):
                groups = [OffsetFetchRequestGroup(group_id=who, topics=asked)]
                t.call(f"{label}, {who == group}", OffsetFetchRequest(groups=groups), version)
    for version in range(2, 9):
        t.call(
            "commit nothing", OffsetCommitRequest(group_id=group, generation_id_or_member_epoch=-1), version
        )
        nothing = OffsetCommitRequest(
            group_id=group, generation_id_or_member_epoch=-1, topics=[OffsetCommitRequestTopic(name=name)]
        )
        t.call("commit no partitions", nothing, version)
        unknown = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=-1,
            topics=[OffsetCommitRequestTopic(name=t.topic("absent"))],
        )
        t.call("commit no partitions of no topic", unknown, version)
    t.every_version("delete nothing", OffsetDeleteRequest(group_id=group))


def log_dirs(t: Transcript) -> None:
    name, _ = t.create("t", 2)
    for version in versions(35):
        for label, topics in (
            ("null", None),
            ("empty", []),
            ("no partitions", [DescribableLogDirTopic(topic=name)]),
            ("one", [DescribableLogDirTopic(topic=name, partitions=[1])]),
            ("unknown", [DescribableLogDirTopic(topic=t.topic("absent"), partitions=[0])]),
        ):
            reply = t.ask(DescribeLogDirsRequest(topics=topics), version)
            found = sorted(
                (topic.name, part.partition_index)
                for result in reply.results
                for topic in result.topics
                for part in topic.partitions
                if topic.name == name
            )
            t.keep(f"{label} v{version}", [len(reply.results), found])


def leaders_and_moves(t: Transcript) -> None:
    name, _ = t.create("t", 2)
    for version in versions(43):
        for label, asked in (
            ("null", None),
            ("empty", []),
            ("no partitions", [TopicPartitions(topic=name)]),
            ("one", [TopicPartitions(topic=name, partitions=[0])]),
        ):
            elect = ElectLeadersRequest(topic_partitions=asked, timeout_ms=5_000)
            if label != "null":
                t.call(f"elect {label}", elect, version)
                continue
            reply = t.ask(elect, version)
            found = [row.partition_result for row in reply.replica_election_results if row.topic == name]
            t.keep(f"elect null v{version}", [reply.error_code, found])
    for version in versions(46):
        for label, topics in (
            ("null", None),
            ("empty", []),
            ("no partitions", [ListPartitionReassignmentsTopics(name=name)]),
            ("one", [ListPartitionReassignmentsTopics(name=name, partition_indexes=[0])]),
        ):
            t.call(
                f"list {label}", ListPartitionReassignmentsRequest(topics=topics, timeout_ms=5_000), version
            )
    for version in versions(45):
        for label, replicas in (("null", None), ("empty", []), ("same", [1])):
            part = ReassignablePartition(partition_index=0, replicas=replicas)
            topic = ReassignableTopic(name=name, partitions=[part])
            t.call(
                f"move {label}", AlterPartitionReassignmentsRequest(topics=[topic], timeout_ms=5_000), version
            )
        t.call("move nothing", AlterPartitionReassignmentsRequest(timeout_ms=5_000), version)
        nothing = AlterPartitionReassignmentsRequest(topics=[ReassignableTopic(name=name)], timeout_ms=5_000)
        t.call("move no partitions", nothing, version)
    for version in versions(37):
        for label, assignments in (("null", None), ("empty", [])):
            for count in (2, 3):
                topic_row = CreatePartitionsTopic(name=name, count=count, assignments=assignments)
                request = CreatePartitionsRequest(topics=[topic_row], timeout_ms=5_000, validate_only=True)
                t.call(f"grow to {count}, {label}", request, version)
        t.call("grow nothing", CreatePartitionsRequest(timeout_ms=5_000), version)


def nothing_at_all(t: Transcript) -> None:
    """Empty arrays where null is not allowed."""
    name, _ = t.create("t")
    t.await_coordinator()
    group = t.topic("g")
    requests: list[tuple[str, Any]] = [
        ("describe groups", DescribeGroupsRequest()),
        ("delete groups", DeleteGroupsRequest()),
        ("delete records", DeleteRecordsRequest(timeout_ms=5_000)),
        ("delete records of no partition", DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=name)], timeout_ms=5_000)),
        ("delete topics", DeleteTopicsRequest(timeout_ms=5_000)),
        ("create topics", CreateTopicsRequest(timeout_ms=5_000)),
        ("alter configs", AlterConfigsRequest()),
        ("alter no configs", AlterConfigsRequest(resources=[AlterConfigsResource(resource_type=TOPIC, resource_name=name)])),
        ("incremental", IncrementalAlterConfigsRequest()),
        ("log dirs", AlterReplicaLogDirsRequest()),
        ("producers", DescribeProducersRequest()),
        ("producers of no partition", DescribeProducersRequest(topics=[TopicRequest(name=name)])),
        ("epochs", OffsetForLeaderEpochRequest()),
        ("list offsets", ListOffsetsRequest(replica_id=-1)),
        ("list offsets of no partition", ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=name)])),
        ("produce", ProduceRequest(acks=1, timeout_ms=1_000)),
        ("fetch", FetchRequest(max_wait_ms=0, min_bytes=0, max_bytes=1 << 20)),
        ("leave", LeaveGroupRequest(group_id=group)),
    ]  # fmt: skip
    for label, request in requests:
        t.every_version(label, request)
    for version in range(4, versions(10)[-1] + 1):
        t.call("coordinators", FindCoordinatorRequest(coordinator_keys=[]), version)
    for version in versions(16):
        reply = t.ask(ListGroupsRequest(states_filter=[], types_filter=[]), version)
        t.keep(f"list groups v{version}", reply.error_code)
        if version >= 4:
            t.call("list groups of no such state", ListGroupsRequest(states_filter=["Nowhere"]), version)
        if version >= 5:
            t.call("list groups of no such type", ListGroupsRequest(types_filter=["nothing"]), version)
    for version in versions(74):
        for label, kinds in (("all", []), ("topics", [TOPIC]), ("unknown", [99])):
            if version > 0:
                reply = t.ask(ListConfigResourcesRequest(resource_types=kinds), version)
                said = sorted(
                    {row.resource_type for row in reply.config_resources if row.resource_type != 16}
                )
                t.keep(f"config resources {label} v{version}", [reply.error_code, said])


SCENARIOS: list[Scenario] = [metadata, configs, offsets, log_dirs, leaders_and_moves, nothing_at_all]


@pytest.mark.java
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_answers_as_kafka(scenario: Scenario, broker: BrokerProcess, apache: KafkaProcess) -> None:
    assert_same(scenario, broker, apache)
