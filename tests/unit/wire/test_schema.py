"""What a message object is, and Kafka's rules for what a version cannot carry."""

from __future__ import annotations

import pytest

from tierlog.errors import MalformedMessage
from tierlog.wire.codec import decode, decode_exact, encode, encode_bytes
from tierlog.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from tierlog.wire.messages.consumer_group_heartbeat import Assignment, ConsumerGroupHeartbeatResponse
from tierlog.wire.messages.consumer_protocol import ConsumerProtocolSubscription
from tierlog.wire.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchTopic,
    LeaderIdAndEpoch,
    PartitionData,
)
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tierlog.wire.messages.offset_fetch import OffsetFetchRequest
from tierlog.wire.messages.produce import ProduceRequest, TopicProduceData
from tierlog.wire.primitives import read_uvarint, uvarint
from tierlog.wire.schema import EncodeError


def test_defaults_are_kafkas_and_fresh() -> None:
    request = FetchRequest()
    assert (request.replica_id, request.max_bytes, request.session_epoch) == (-1, 0x7FFFFFFF, -1)
    assert request.cluster_id is None
    request.topics.append(FetchTopic())
    assert FetchRequest().topics == []
    first, second = Assignment(), Assignment()
    assert first.topic_partitions is not second.topic_partitions


def test_an_unknown_argument_is_an_error() -> None:
    with pytest.raises(TypeError):
        FetchRequest(nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        FetchRequest().nonsense = 1  # type: ignore[attr-defined]


def test_a_shared_default_refuses_assignment() -> None:
    partition = PartitionData()
    assert partition.current_leader == LeaderIdAndEpoch()
    assert partition.current_leader is PartitionData().current_leader
    with pytest.raises(AttributeError):
        partition.current_leader.leader_id = 3
    partition.current_leader = LeaderIdAndEpoch(leader_id=3)
    partition.current_leader.leader_epoch = 4
    assert PartitionData().current_leader.leader_id == -1


def test_equality_and_representation() -> None:
    assert FetchPartition(partition=1) == FetchPartition(partition=1)
    assert FetchPartition(partition=1) != FetchPartition(partition=2)
    assert FetchPartition() != FetchTopic()
    assert repr(LeaderIdAndEpoch(leader_id=1)) == "LeaderIdAndEpoch(leader_id=1, leader_epoch=-1)"
    assert repr(PartitionData().current_leader) == "LeaderIdAndEpoch(leader_id=-1, leader_epoch=-1)"


def test_ignorable_fields_are_dropped_where_the_version_lacks_them() -> None:
    partition = FetchPartition(current_leader_epoch=5)
    data = encode_bytes(FetchRequest(topics=[FetchTopic(topic="t", partitions=[partition])]), 4)
    assert decode_exact(FetchRequest, 4, data).topics[0].partitions[0].current_leader_epoch == -1


def test_other_fields_are_an_error_where_the_version_lacks_them() -> None:
    partition = FetchPartition(last_fetched_epoch=5)
    with pytest.raises(EncodeError, match="last_fetched_epoch"):
        encode(FetchRequest(topics=[FetchTopic(topic="t", partitions=[partition])]), 11)
    with pytest.raises(EncodeError):
        encode(MetadataRequest(include_topic_authorized_operations=True), 7)


def test_null_is_an_error_unless_the_version_allows_it() -> None:
    assert decode_exact(MetadataRequest, 1, encode_bytes(MetadataRequest(topics=None), 1)).topics is None
    with pytest.raises(EncodeError):
        encode(MetadataRequest(topics=None), 0)
    with pytest.raises(EncodeError):
        encode(MetadataRequest(topics=[MetadataRequestTopic(name=None)]), 9)
    with pytest.raises(MalformedMessage):
        decode(MetadataRequest, 0, b"\xff\xff\xff\xff")
    with pytest.raises(MalformedMessage):
        decode(MetadataRequest, 9, b"\x02\x00\x00\x00\x00\x00\x00")
    assert decode_exact(OffsetFetchRequest, 2, b"\x00\x01g\xff\xff\xff\xff").topics is None


def test_values_that_do_not_fit_are_encode_errors() -> None:
    with pytest.raises(EncodeError):
        encode(ProduceRequest(acks=1 << 20), 7)
    for version in (7, 9):
        with pytest.raises(EncodeError):
            encode(ProduceRequest(topic_data=[TopicProduceData(name="x" * 32768)]), version)
        encode(ProduceRequest(topic_data=[TopicProduceData(name="x" * 32767)]), version)
    with pytest.raises(EncodeError):
        encode(ProduceRequest(topic_data=[TopicProduceData(topic_id=b"short")]), 13)


@pytest.mark.parametrize("version", [-1, 6, 1000])
def test_versions_outside_the_declaration(version: int) -> None:
    with pytest.raises(MalformedMessage):
        decode(ApiVersionsRequest, version, b"")
    with pytest.raises(EncodeError):
        encode(ApiVersionsRequest(), version)


def test_unknown_tagged_fields_are_skipped() -> None:
    plain = b"\x05name\x02v"
    for tags in (b"\x00", b"\x01\x09\x03abc", b"\x02\x09\x00\xff\x7f\x02hi"):
        message = decode_exact(ApiVersionsRequest, 3, plain + tags)
        assert (message.client_software_name, message.client_software_version) == ("name", "v")
    for tags in (
        b"",
        b"\x01",
        b"\x01\x09",
        b"\x01\x09\x04abc",
        b"\xff\xff\xff\xff\x0f",
        b"\x80\x80\x80\x80\x80\x01",
    ):
        with pytest.raises(MalformedMessage):
            decode_exact(ApiVersionsRequest, 3, plain + tags)


def test_a_tagged_field_must_be_as_long_as_it_says() -> None:
    good = ApiVersionsResponse(finalized_features_epoch=7)
    data = encode_bytes(good, 3)
    assert decode_exact(ApiVersionsResponse, 3, data) == good
    at = data.index(b"\x01\x08" + (7).to_bytes(8, "big"))
    with pytest.raises(MalformedMessage):
        decode_exact(ApiVersionsResponse, 3, data[: at + 1] + b"\x09" + data[at + 2 :] + b"\0")


def test_a_nullable_struct_has_one_byte_before_it() -> None:
    assert encode_bytes(ConsumerGroupHeartbeatResponse(), 0)[-2:] == b"\xff\x00"
    filled = encode_bytes(ConsumerGroupHeartbeatResponse(assignment=Assignment()), 0)
    assert filled[-4:] == b"\x01\x01\x00\x00"


def test_counts_are_bounded_by_the_bytes_that_remain() -> None:
    for count in (1 << 30, (1 << 31) - 1):
        with pytest.raises(MalformedMessage):
            decode(MetadataRequest, 1, count.to_bytes(4, "big") + bytes(20))
        with pytest.raises(MalformedMessage):
            decode(MetadataRequest, 9, uvarint(count) + bytes(20))
    with pytest.raises(MalformedMessage):
        decode(MetadataRequest, 1, (-2).to_bytes(4, "big", signed=True))


def test_a_newer_subscription_is_read_as_the_newest_known() -> None:
    subscription = ConsumerProtocolSubscription(topics=["a"], rack_id="r")
    data = encode_bytes(subscription, 3) + b"more"
    assert decode(ConsumerProtocolSubscription, 3, data) == (subscription, len(data) - 4)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, (1 << 28) - 1, 1 << 28, (1 << 32) - 1])
def test_varints(value: int) -> None:
    assert read_uvarint(b"x" + uvarint(value), 1) == (value, 1 + len(uvarint(value)))


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff\x10", b"\x80\x80\x80\x80\x80\x00", b"\xff" * 9])
def test_varints_beyond_32_bits_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_uvarint(data, 0)
