"""Bytes that are not the protocol, names and counts that are not allowed: a clear answer, and nothing lost."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator

import pytest

from tests.servers.kafka import KafkaProcess
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.wire.codec import encode_bytes
from tierlog.wire.framing import encode_request_header
from tierlog.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from tierlog.wire.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from tierlog.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from tierlog.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from tierlog.wire.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    TopicRequest,
)
from tierlog.wire.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequestCursor as Cursor,
)
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse

MALFORMED = "tierlog_malformed_requests_total"


@pytest.fixture
def client(cluster: BrokerProcess | KafkaProcess) -> Iterator[RawClient]:
    with RawClient(cluster.port) as connected:
        yield connected


def frame(key: int, version: int, body: bytes) -> bytes:
    payload = encode_request_header(key, version, 7, "raw") + body
    return struct.pack(">i", len(payload)) + payload


def metadata_frame(body: bytes) -> bytes:
    return frame(3, 8, body)


MALFORMED_FRAMES = {
    "negative-size": struct.pack(">i", -1),
    "size-beyond-the-limit": struct.pack(">i", 2**31 - 1),
    "empty": struct.pack(">i", 0),
    "header-cut": struct.pack(">ihh", 4, 3, 8),
    "client-id-beyond-the-frame": struct.pack(">ihhih", 10, 3, 8, 1, 500),
    "body-missing": metadata_frame(b""),
    "array-beyond-the-frame": metadata_frame(struct.pack(">i", 2**31 - 1)),
    "array-of-a-million": metadata_frame(struct.pack(">i", 1_000_000) + b"\0" * 100),
    "negative-array": metadata_frame(struct.pack(">i", -7)),
    "string-beyond-the-frame": metadata_frame(struct.pack(">ih", 1, 3000) + b"abc"),
    "negative-string": metadata_frame(struct.pack(">ih", 1, -9) + b"\0" * 9),
    "not-utf-8": metadata_frame(struct.pack(">ih", 1, 2) + b"\xff\xfe" + b"\0\0\0"),
    "unknown-api": frame(3, 8, b"")[:4] + struct.pack(">h", 999) + frame(3, 8, b"")[6:],
    "unserved-version": frame(3, 8, b"")[:4] + struct.pack(">hh", 3, 99) + frame(3, 8, b"")[8:],
}


class TestMalformedFrames:
    @pytest.mark.parametrize("name", MALFORMED_FRAMES)
    def test_the_connection_is_closed_and_others_live(
        self, cluster: BrokerProcess | KafkaProcess, client: RawClient, name: str, is_kafka: bool
    ) -> None:
        if is_kafka and name == "not-utf-8":
            pytest.skip("Java reads it as question marks")
        with RawClient(cluster.port) as other:
            other.call(MetadataRequest(topics=[]), MetadataResponse)
            client.send_raw(MALFORMED_FRAMES[name])
            assert client.is_closed_by_peer()
            other.call(MetadataRequest(topics=[]), MetadataResponse)

    def test_a_frame_of_countless_tiny_elements(self, broker: BrokerProcess) -> None:
        """Kafka would take them; here a frame must not become a hundred times its size in memory."""
        for body in (struct.pack(">i", 100_001) + bytes(2 * 100_001) + b"\0\0\0", bytes(9 << 20)):
            with RawClient(broker.port) as client:
                client.send_raw(metadata_frame(body))
                assert client.is_closed_by_peer()

    def test_bytes_behind_the_message_are_ignored(self, broker: BrokerProcess) -> None:
        """As Kafka does: librdkafka 2.16 sends three behind a Metadata v13 that asks for all topics."""
        with RawClient(broker.port) as client:
            body = encode_bytes(MetadataRequest(topics=None), 8)
            for _ in range(2):
                client.send_raw(metadata_frame(body + b"\0\0\0"))
                assert client.receive_frame()

    def test_counted_each_time_and_logged_once_a_minute(self, broker: BrokerProcess) -> None:
        before = broker.metrics()[MALFORMED]
        for _ in range(20):
            with RawClient(broker.port) as client:
                client.send_raw(MALFORMED_FRAMES["array-beyond-the-frame"])
                assert client.is_closed_by_peer()
        assert broker.metrics()[MALFORMED] == before + 20
        lines = [json.loads(line) for line in broker.log.read_text().splitlines() if line.startswith("{")]
        logged = [line for line in lines if line["event"] == "closed a connection: malformed request"]
        assert 1 <= len(logged) <= 1 + (time.monotonic() - STARTED_S) / 60
        assert logged[0]["peer"] == "127.0.0.1"

    def test_what_came_before_in_the_same_packet_is_answered(self, broker: BrokerProcess) -> None:
        sound = metadata_frame(encode_bytes(MetadataRequest(topics=[]), 8))
        with RawClient(broker.port) as client:
            client.send_raw(sound + MALFORMED_FRAMES["negative-size"])
            assert client.receive_frame()
            assert client.is_closed_by_peer()

    def test_a_frame_may_come_byte_by_byte(self, client: RawClient) -> None:
        for byte in metadata_frame(encode_bytes(MetadataRequest(topics=[]), 8)):
            client.send_raw(bytes([byte]))
        assert client.receive_frame()


class TestApiVersions:
    def test_an_unknown_version_is_answered_in_version_0(self, client: RawClient) -> None:
        header = struct.pack(">hhihx", 18, 99, 4711, -1)
        client.send_raw(struct.pack(">i", len(header)) + header)
        reply = client.receive_frame()
        correlation_id, error = struct.unpack_from(">ih", reply)
        assert (correlation_id, error) == (4711, ErrorCode.UNSUPPORTED_VERSION)
        # The connection goes on, as KIP-511 promises.
        request = ApiVersionsRequest(client_software_name="raw", client_software_version="1")
        assert client.call(request, ApiVersionsResponse, 3).error_code == ErrorCode.NONE

    def test_a_software_name_that_is_none(self, client: RawClient) -> None:
        request = ApiVersionsRequest(client_software_name="ra w", client_software_version="1")
        assert client.call(request, ApiVersionsResponse, 3).error_code == ErrorCode.INVALID_REQUEST


class TestTopics:
    def create(
        self, client: RawClient, name: str, partitions: int = 1, replicas: int = 1, **configs: str
    ) -> str:
        named = [CreatableTopicConfig(name=k.replace("_", "."), value=v) for k, v in configs.items()]
        topic = CreatableTopic(
            name=name, num_partitions=partitions, replication_factor=replicas, configs=named
        )
        answer = client.call(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), CreateTopicsResponse)
        return ErrorCode(answer.topics[0].error_code).name

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "a/b", "a b", "x" * 250, "ümlaut", "nul\0", "a\nb", "../up"]
    )
    def test_bad_names(self, client: RawClient, name: str) -> None:
        assert self.create(client, name) == "INVALID_TOPIC_EXCEPTION"

    def test_a_name_that_collides(self, client: RawClient) -> None:
        assert self.create(client, "colliding.name") == "NONE"
        assert self.create(client, "colliding_name") == "INVALID_TOPIC_EXCEPTION"
        assert self.create(client, "colliding.name") == "TOPIC_ALREADY_EXISTS"

    def test_bad_counts(self, client: RawClient) -> None:
        assert self.create(client, "counts", 0) == "INVALID_PARTITIONS"
        assert self.create(client, "counts", -2) == "INVALID_PARTITIONS"
        assert self.create(client, "counts", 1, 0) == "INVALID_REPLICATION_FACTOR"
        assert self.create(client, "counts", 1, 5) == "INVALID_REPLICATION_FACTOR"

    def test_more_partitions_than_one_request_may_make(self, client: RawClient) -> None:
        assert self.create(client, "many", 10_001) in ("INVALID_PARTITIONS", "POLICY_VIOLATION")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("no_such_config", "1"),
            ("segment_bytes", "many"),
            ("segment_bytes", "-1"),
            ("cleanup_policy", "burn"),
            ("compression_type", "rar"),
            ("retention_ms", "-2"),
            ("min_cleanable_dirty_ratio", "1.5"),
        ],
    )
    def test_bad_configs(self, client: RawClient, key: str, value: str) -> None:
        assert self.create(client, "configs", **{key: value}) == "INVALID_CONFIG"

    def test_growing(self, client: RawClient) -> None:
        client.create_topic("growing", 2)

        def grow(name: str, count: int) -> str:
            topic = CreatePartitionsTopic(name=name, count=count, assignments=None)
            request = CreatePartitionsRequest(topics=[topic], timeout_ms=10_000)
            answer = client.call(request, CreatePartitionsResponse)
            return ErrorCode(answer.results[0].error_code).name

        assert [grow("growing", count) for count in (2, 1, 0, -1)] == ["INVALID_PARTITIONS"] * 4
        assert grow("nowhere", 3) == "UNKNOWN_TOPIC_OR_PARTITION"
        assert grow("growing", 3) == "NONE"

    def test_deleting_what_is_not_there(self, client: RawClient) -> None:
        for asked, error in (
            (DeleteTopicState(name="nowhere"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            (DeleteTopicState(name=None, topic_id=bytes(range(16))), ErrorCode.UNKNOWN_TOPIC_ID),
        ):
            request = DeleteTopicsRequest(topics=[asked], timeout_ms=10_000)
            answer = client.call(request, DeleteTopicsResponse)
            assert answer.responses[0].error_code == error


class TestRequestsThatOnceFailed:
    """Found by tests.fuzz.live: each of them broke a handler."""

    def test_metadata_without_a_name_or_by_id_in_a_version_that_cannot(self, client: RawClient) -> None:
        client.create_topic("named")
        for topic in (
            MetadataRequestTopic(name=None),
            MetadataRequestTopic(topic_id=bytes(range(16)), name="named"),
        ):
            for version in (10, 11):
                answer = client.call(MetadataRequest(topics=[topic]), MetadataResponse, version)
                assert answer.topics[0].error_code == ErrorCode.INVALID_REQUEST
                assert answer.topics[0].name == (topic.name or "")

    def test_a_cursor_before_the_first_partition(self, client: RawClient) -> None:
        client.create_topic("paged", 3)
        request = DescribeTopicPartitionsRequest(
            topics=[TopicRequest(name="paged")], cursor=Cursor(topic_name="paged", partition_index=-5)
        )
        answer = client.call(request, DescribeTopicPartitionsResponse)
        assert answer.topics[0].error_code == ErrorCode.INVALID_REQUEST

    def test_a_cursor_behind_the_last_partition(self, client: RawClient) -> None:
        client.create_topic("paged-out", 3)
        request = DescribeTopicPartitionsRequest(
            topics=[TopicRequest(name="paged-out")], cursor=Cursor(topic_name="paged-out", partition_index=50)
        )
        answer = client.call(request, DescribeTopicPartitionsResponse)
        assert answer.topics[0].partitions == []


STARTED_S = time.monotonic()


def test_nothing_of_this_was_a_bug(broker: BrokerProcess) -> None:
    """Runs in any order: whatever came before must have left no trace of a failed handler."""
    assert broker.metrics()["tierlog_handler_bugs_total"] == 0
    with RawClient(broker.port) as client:
        client.create_topic("after-bad-input")
        assert client.produce("after-bad-input", one_batch(b"sound")).error_code == ErrorCode.NONE
        assert client.values("after-bad-input") == [b"sound"]
