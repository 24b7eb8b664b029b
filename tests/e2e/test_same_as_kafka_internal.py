"""The coordinators' own topics, and groups that have lost their last offset: as Apache Kafka treats them."""

from __future__ import annotations

import pytest

from tests.e2e.test_same_as_kafka_groups import commit_of
from tests.e2e.transcript import Scenario, Transcript, assert_same, versions
from tests.servers.kafka import KafkaProcess
from tests.servers.raw_client import one_batch
from tests.servers.tierlog import BrokerProcess
from tierlog.wire.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from tierlog.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from tierlog.wire.messages.delete_groups import DeleteGroupsRequest
from tierlog.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from tierlog.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from tierlog.wire.messages.describe_groups import DescribeGroupsRequest
from tierlog.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from tierlog.wire.messages.list_groups import ListGroupsRequest
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tierlog.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from tierlog.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

OFFSETS = "__consumer_offsets"
TOPIC = 2  # config resource type


def produce_of(name: str, topic_id: bytes, acks: int, batch: bytes) -> ProduceRequest:
    rows = [PartitionProduceData(index=n, records=batch) for n in (0, 77)]
    topic = TopicProduceData(name=name, topic_id=topic_id, partition_data=rows)
    return ProduceRequest(acks=acks, timeout_ms=10_000, topic_data=[topic])


def internal_topics(t: Transcript) -> None:
    t.ignore("throttle_time_ms", "leader_id", "leader_epoch", "current_leader", "node_endpoints", "configs")
    t.await_coordinator()
    described = t.ask(MetadataRequest(topics=[MetadataRequestTopic(name=OFFSETS)]))
    topic_id = bytes(described.topics[0].topic_id)
    batch = bytes(one_batch(b"v", key=b"k"))
    for version in versions(0):
        for acks in (1, -1):
            t.call(f"produce {acks}", produce_of(OFFSETS, topic_id, acks, batch), version)
    t.call("produce 0", produce_of(OFFSETS, topic_id, 0, batch), 9)
    t.call("wrong acks", produce_of(OFFSETS, topic_id, 5, batch))
    t.call("no batch", produce_of(OFFSETS, topic_id, 1, b""))
    t.call("absent", produce_of("__transaction_state", bytes(16), 1, batch), 9)
    records = DeleteRecordsTopic(
        name=OFFSETS, partitions=[DeleteRecordsPartition(partition_index=n, offset=0) for n in (0, 77)]
    )
    t.every_version("delete records", DeleteRecordsRequest(topics=[records], timeout_ms=10_000))
    for count in (10, 50, 51):
        more = CreatePartitionsTopic(name=OFFSETS, count=count)
        request = CreatePartitionsRequest(topics=[more], timeout_ms=10_000, validate_only=True)
        t.call(f"partitions {count}", request)
    for name in ("__transaction_state", "__share_group_state", OFFSETS):
        new = CreatableTopic(name=name, num_partitions=1, replication_factor=1)
        t.call(f"create {name}", CreateTopicsRequest(topics=[new], timeout_ms=10_000, validate_only=True))
    for key, value in (("retention.ms", "1000"), ("cleanup.policy", "delete"), ("segment.bytes", "1048576")):
        config = AlterableConfig(name=key, config_operation=0, value=value)
        resource = AlterConfigsResource(resource_type=TOPIC, resource_name=OFFSETS, configs=[config])
        t.call(f"alter {key}", IncrementalAlterConfigsRequest(resources=[resource], validate_only=True))


def states(t: Transcript, label: str, group: str) -> None:
    t.call(f"{label}: describe", DescribeGroupsRequest(groups=[group]))
    t.call(f"{label}: describe", DescribeGroupsRequest(groups=[group]), 5)
    listed = t.ask(ListGroupsRequest())
    t.keep(f"{label}: list", [row for row in listed.groups if row.group_id == group])


def last_offsets(t: Transcript) -> None:
    """Of a simple consumer's group, deleted by OffsetDelete and with its topic."""
    t.ignore("error_message")  # ours says more often what is wrong
    t.await_coordinator()
    topic, other = t.create("t", 2), t.create("other")
    for version in versions(42):
        group = t.topic(f"by-offset-{version}")
        t.ask(commit_of(group, topic, (0, 5), (1, 6)))
        for n in (0, 1, 1):
            rows = [OffsetDeleteRequestPartition(partition_index=n)]
            named = [OffsetDeleteRequestTopic(name=topic[0], partitions=rows)]
            request = OffsetDeleteRequest(group_id=group, topics=named)
            t.keep(f"delete offset {version}-{n}-{len(t.entries)}", t.ask(request))
        states(t, f"without offsets {version}", group)
        t.call("delete", DeleteGroupsRequest(groups_names=[group]), version)
        states(t, f"deleted {version}", group)
        t.keep(f"delete again {version}", t.ask(DeleteGroupsRequest(groups_names=[group]), version))
    group = t.topic("by-topic")
    t.ask(commit_of(group, other, (0, 5)))
    t.ask(DeleteTopicsRequest(topics=[DeleteTopicState(name=other[0])], timeout_ms=10_000))
    states(t, "without topic", group)
    t.call("delete without topic", DeleteGroupsRequest(groups_names=[group]))
    again = t.topic("again")
    t.ask(commit_of(again, topic, (0, 5)))
    rows = [OffsetDeleteRequestPartition(partition_index=0)]
    named = [OffsetDeleteRequestTopic(name=topic[0], partitions=rows)]
    t.ask(OffsetDeleteRequest(group_id=again, topics=named))
    t.call("commit again", commit_of(again, topic, (0, 7)))
    states(t, "again", again)


SCENARIOS: list[Scenario] = [internal_topics, last_offsets]


@pytest.mark.java
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_answers_as_kafka(scenario: Scenario, broker: BrokerProcess, apache: KafkaProcess) -> None:
    assert_same(scenario, broker, apache)
