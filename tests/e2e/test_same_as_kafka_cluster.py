"""Reading the cluster: each answer field by field as Apache Kafka gives it, in every version."""

from __future__ import annotations

import time

import pytest

from tests.e2e.transcript import Scenario, Transcript, assert_same, versions
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess
from tierlog.wire.codec import encode
from tierlog.wire.framing import decode_response_header, encode_request
from tierlog.wire.messages.api_versions import ApiVersionsRequest
from tierlog.wire.messages.describe_cluster import DescribeClusterRequest
from tierlog.wire.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from tierlog.wire.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsRequestCursor,
    TopicRequest,
)
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest
from tierlog.wire.messages.init_producer_id import InitProducerIdRequest
from tierlog.wire.messages.list_config_resources import ListConfigResourcesRequest
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic

SOMETHING = bytes(range(16))


def api_versions(t: Transcript) -> None:
    for label, name, version in (
        ("no name", "", "1"),
        ("no version", "raw", ""),
        ("bad name", "-raw", "1"),
        ("bad version", "raw", "1 2"),
        ("dots", "r.a-w", "1.2-3"),
    ):
        request = ApiVersionsRequest(client_software_name=name, client_software_version=version)
        for version_number in versions(18):
            reply = t.ask(request, version_number)
            t.keep(f"{label} v{version_number}", [reply.error_code, bool(reply.api_keys)])
    for label, cluster_id, node_id in (
        ("another cluster", "other", 1),
        ("another node", None, 7),
        ("this node", None, 1),
        ("another cluster and node", "other", 7),
        ("cluster only", "other", -1),
        ("neither", None, -1),
        ("this cluster and node", t.cluster_id, 1),
        ("this cluster, another node", t.cluster_id, 2),
        ("this cluster alone", t.cluster_id, -1),
        ("no cluster name", "", 1),
        ("nodes below 0", t.cluster_id, -2),
    ):
        request = ApiVersionsRequest(
            client_software_name="raw", client_software_version="1", cluster_id=cluster_id, node_id=node_id
        )
        for version_number in versions(18):
            reply = t.ask(request, version_number)
            t.keep(f"{label} v{version_number}", [reply.error_code, bool(reply.api_keys)])


def unknown_versions(t: Transcript) -> None:
    """ApiVersions of a version to come is answered in version 0; anything else closes the connection."""
    for key, version in (
        (18, 6),
        (18, 99),
        (18, -1),
        (3, 14),
        (3, 99),
        (0, 2),
        (0, 14),
        (1, 3),
        (99, 0),
        (-1, 0),
    ):
        body = encode(ApiVersionsRequest(client_software_name="raw", client_software_version="1"), 3)
        frame = b"".join(encode_request(18, 3, 77, "raw", body))
        patched = bytearray(frame)
        patched[4:8] = key.to_bytes(2, "big", signed=True) + version.to_bytes(2, "big", signed=True)
        t.client.send_raw(bytes(patched))
        if key != 18:
            t.keep(f"key {key} version {version}", t.client.is_closed_by_peer())
            t.close()
            continue
        try:
            reply = t.client.receive_frame()
        except ConnectionError:
            reply = b""
        correlation_id, offset = decode_response_header(18, 0, reply)
        t.keep(f"key {key} version {version}", [correlation_id, reply[offset:]])


def metadata(t: Transcript) -> None:
    t.ours_differs("neither", "Kafka fails on the null name and answers nothing of use")
    one, one_id = t.create("one")
    three, three_id = t.create("three", 3)
    for operations in (False, True):
        for label, topics in (
            ("none", []),
            ("known", [MetadataRequestTopic(name=one), MetadataRequestTopic(name=three)]),
            ("twice", [MetadataRequestTopic(name=one), MetadataRequestTopic(name=one)]),
            ("unknown", [MetadataRequestTopic(name=t.topic("absent")), MetadataRequestTopic(name=one)]),
            ("bad name", [MetadataRequestTopic(name="a b"), MetadataRequestTopic(name=".")]),
            ("empty name", [MetadataRequestTopic(name=""), MetadataRequestTopic(name="")]),
            ("long name", [MetadataRequestTopic(name="x" * 250)]),
            ("by id", [MetadataRequestTopic(name=None, topic_id=three_id)]),
            ("by ids", [MetadataRequestTopic(name=None, topic_id=i) for i in (one_id, SOMETHING, three_id)]),
            ("by id and name", [MetadataRequestTopic(name=one, topic_id=three_id)]),
            (
                "by id, by name",
                [MetadataRequestTopic(name=None, topic_id=one_id), MetadataRequestTopic(name=three)],
            ),
            ("id with empty name", [MetadataRequestTopic(name="", topic_id=one_id)]),
            ("unknown id", [MetadataRequestTopic(name=None, topic_id=SOMETHING)]),
            ("neither", [MetadataRequestTopic(name=None)]),
        ):
            for version in versions(3):
                # Version 0 takes no topics for all of them, and versions below 4 create what is missing.
                if (label == "none" and version == 0) or (label == "unknown" and version < 4):
                    continue
                request = MetadataRequest(topics=topics, allow_auto_topic_creation=version < 4)
                request.include_topic_authorized_operations = operations and version >= 8
                request.include_cluster_authorized_operations = operations and 8 <= version <= 10
                t.call(f"{label}, operations {operations}", request, version)


def metadata_of_all(t: Transcript) -> None:
    names = {t.create("one")[0], t.create("three", 3)[0]}
    for version in versions(3):
        everything: list[MetadataRequestTopic] | None = [] if version == 0 else None
        reply = t.ask(MetadataRequest(topics=everything, allow_auto_topic_creation=version < 4), version)
        t.keep(
            f"all v{version}",
            [topic for topic in sorted(reply.topics, key=lambda x: x.name) if topic.name in names],
        )


def auto_creation(t: Transcript) -> None:
    for version in versions(3):
        name = t.topic(f"auto-{version}")
        request = MetadataRequest(topics=[MetadataRequestTopic(name=name)])
        for _ in range(1000):
            reply = t.ask(request, version)
            if reply.topics[0].error_code not in (3, 5) and all(
                p.error_code == 0 for p in reply.topics[0].partitions
            ):
                break
            time.sleep(0.005)
        t.keep(f"created v{version}", reply)
    for name in ("__cluster_metadata", "__transaction_state", "__share_group_state"):
        request = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
        t.call(f"{name}, not created", request)
    internal = MetadataRequest(topics=[MetadataRequestTopic(name="a b"), MetadataRequestTopic(name="")])
    t.every_version("bad names", internal)
    base = t.create("a_b")[0]
    collides = MetadataRequest(topics=[MetadataRequestTopic(name=base.replace("a_b", "a.b"))])
    t.every_version("colliding", collides)
    denied = MetadataRequest(
        topics=[MetadataRequestTopic(name=t.topic("denied"))], allow_auto_topic_creation=False
    )
    t.every_version("not allowed", denied)


def describe_cluster(t: Transcript) -> None:
    for operations in (False, True):
        for endpoint_type in (1, 2, 3, 0):
            for fenced in (False, True):
                t.every_version(
                    f"operations {operations}, endpoint type {endpoint_type}, fenced {fenced}",
                    DescribeClusterRequest(
                        include_cluster_authorized_operations=operations,
                        endpoint_type=endpoint_type,
                        include_fenced_brokers=fenced,
                    ),
                )


def describe_topic_partitions(t: Transcript) -> None:
    t.ours_differs("empty name", "Kafka's authorizer cannot name it and all topics are UNKNOWN_SERVER_ERROR")
    a, b, c = (t.create(name, count)[0] for name, count in (("a", 1), ("b", 3), ("c", 2)))
    absent = t.topic("bb-absent")

    def ask(label: str, names: list[str], limit: int = 2000, cursor: tuple[str, int] | None = None) -> None:
        start = None
        if cursor is not None:
            start = DescribeTopicPartitionsRequestCursor(topic_name=cursor[0], partition_index=cursor[1])
        topics = [TopicRequest(name=name) for name in names]
        request = DescribeTopicPartitionsRequest(topics=topics, response_partition_limit=limit, cursor=start)
        t.call(label, request)

    ask("three", [a, b, c])
    ask("out of order and twice", [c, a, a, b])
    ask("unknown between", [a, absent, c])
    ask("bad names", ["a b", ".", "x" * 250])
    ask("empty name", [a, ""])
    for limit in (1, 2, 3, 4, 5, 6, 0, -1):
        ask(f"limit {limit}", [a, b, c], limit)
        ask(f"limit {limit} with unknown", [a, absent, b, c], limit)
    for partition in (0, 1, 2, 3, 9, -1):
        ask(f"cursor in b at {partition}", [a, b, c], cursor=(b, partition))
        ask(f"cursor in b at {partition}, limit 1", [a, b, c], 1, cursor=(b, partition))
        ask(f"cursor in unknown at {partition}", [a, absent, b, c], cursor=(absent, partition))
        ask(f"cursor in unasked at {partition}", [c, a, c], cursor=(b, partition))
    ask("cursor behind all", [a, b, c], cursor=(c + "z", 0))
    ask("cursor before all", [a, b, c], cursor=("", 0))
    ask("cursor with bad name", [a, b, c], cursor=("a b", 0))


def describe_log_dirs(t: Transcript) -> None:
    one, three = t.create("one")[0], t.create("three", 3)[0]

    def topic(name: str, *partitions: int) -> DescribableLogDirTopic:
        return DescribableLogDirTopic(topic=name, partitions=list(partitions))

    for label, topics in (
        ("none", []),
        ("known", [topic(one, 0), topic(three, 2, 0)]),
        ("one of three", [topic(three, 1)]),
        ("no partitions", [topic(three)]),
        ("unknown topic", [topic(t.topic("absent"), 0)]),
        ("unknown partition", [topic(one, 7, 0)]),
        ("twice", [topic(one, 0, 0), topic(one, 0)]),
        ("bad name", [topic("a b", 0), topic("", 0)]),
    ):
        for version in versions(35):
            reply = t.ask(DescribeLogDirsRequest(topics=topics), version)
            for result in reply.results:
                result.topics.sort(key=lambda found: found.name)
                for found in result.topics:
                    found.partitions.sort(key=lambda partition: partition.partition_index)
            t.keep(f"{label} v{version}", reply)
    for version in versions(35):
        reply = t.ask(DescribeLogDirsRequest(topics=None), version)
        mine = [
            (
                result.error_code,
                topic.name,
                sorted(partition.partition_index for partition in topic.partitions),
            )
            for result in reply.results
            for topic in sorted(result.topics, key=lambda found: found.name)
            if topic.name in (one, three)
        ]
        t.keep(f"all v{version}", mine)


def init_producer_id(t: Transcript) -> None:
    t.await_producer_ids()
    for timeout_ms in (1000, 0, -1):
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=timeout_ms)
        t.every_version(f"idempotent, timeout {timeout_ms}", request)
    empty = InitProducerIdRequest(transactional_id="", transaction_timeout_ms=1000)
    t.every_version("empty transactional id", empty)
    for label, producer_id, epoch in (
        ("known id", 5, 3),
        ("id alone", 5, -1),
        ("epoch alone", -1, 3),
        ("last", 5, 32767),
    ):
        request = InitProducerIdRequest(
            transactional_id=None, transaction_timeout_ms=1000, producer_id=producer_id, producer_epoch=epoch
        )
        t.every_version(label, request)


def find_coordinator(t: Transcript) -> None:
    def await_found(version: int, **fields: object) -> None:
        for _ in range(1000):
            reply = t.ask(FindCoordinatorRequest(**fields), version)  # type: ignore[arg-type]
            codes = [reply.error_code, *(found.error_code for found in reply.coordinators)]
            if 15 not in codes:
                break
        t.keep(f"{fields} v{version}", reply)

    for version in versions(10):
        if version < 4:
            for key in ("g", ""):
                await_found(version, key=key)
                if version >= 1:
                    t.call(f"key type 9 of {key!r}", FindCoordinatorRequest(key=key, key_type=9), version)
        else:
            await_found(version, coordinator_keys=["g"])
            await_found(version, coordinator_keys=["g", "h", "g", ""])
            await_found(version, coordinator_keys=[])
            t.call("key type 9", FindCoordinatorRequest(coordinator_keys=["g"], key_type=9), version)


def list_config_resources(t: Transcript) -> None:
    for types in ([], [4], [8], [2, 2], [99], [4, 99]):
        for version in versions(74):
            if version == 0 and types:
                continue
            reply = t.ask(ListConfigResourcesRequest(resource_types=types), version)
            mine = sorted(
                (row.resource_type, row.resource_name)
                for row in reply.config_resources
                if row.resource_type != 2
            )
            t.keep(f"{types} v{version}", [reply.error_code, mine])


SCENARIOS: list[Scenario] = [
    api_versions,
    unknown_versions,
    metadata,
    metadata_of_all,
    auto_creation,
    describe_cluster,
    describe_topic_partitions,
    describe_log_dirs,
    init_producer_id,
    find_coordinator,
    list_config_resources,
]


@pytest.mark.java
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_answers_as_kafka(scenario: Scenario, broker: BrokerProcess, apache: KafkaProcess) -> None:
    assert_same(scenario, broker, apache)
