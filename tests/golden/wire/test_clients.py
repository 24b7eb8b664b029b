"""Frames as real clients send them and records as Kafka stores them, assembled by hand field by field.

Each line of a frame is the hex of one field and its meaning; what was checked is the reading, the values, and that
writing the same values gives the same bytes.
"""

from __future__ import annotations

import pytest

from tierlog.wire.codec import decode_exact, encode_bytes
from tierlog.wire.framing import decode_request_header, encode_request_header
from tierlog.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from tierlog.wire.messages.delete_groups import DeletableGroupResult, DeleteGroupsResponse
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ReplicaState
from tierlog.wire.messages.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
)
from tierlog.wire.messages.init_producer_id import InitProducerIdRequest
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tierlog.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tierlog.wire.schema import Message

TOPIC_ID = bytes.fromhex("00112233445566778899aabbccddeeff")

API_VERSIONS_V3_LIBRDKAFKA = """
0012                        ApiVersions
0003                        version
00000001                    correlation id
0007 72646b61666b61         client id rdkafka, not compact
00                          no tags
0b 6c696272646b61666b61     software name librdkafka
07 322e31322e31             software version 2.12.1
00                          no tags
"""
API_VERSIONS_V5_JAVA = """
0012 0005 00000000
000a 70726f64756365722d31   client id producer-1
00
12 6170616368652d6b61666b612d6a617661
06 342e342e30
00                          cluster id null
ffffffff                    node id unknown
00
"""
METADATA_V4_KCAT = """
0003 0004 00000002
0007 72646b61666b61
00000001                    one topic
0007 666c6967687473         flights
01                          may be created
"""
METADATA_V0_ALL = """
0003 0000 00000002
ffff                        client id null
00000000                    no topics: all of them
"""
PRODUCE_V7_KAFKAJS = """
0000 0007 00000009
0003 617070
ffff                        no transactional id
ffff                        acks all
00007530                    30 s
00000001                    one topic
0001 74
00000001                    one partition
00000002                    partition 2
00000004 01020304           records
"""
PRODUCE_V9_KAFKA_PYTHON = """
0000 0009 00000009
0003 617070 00
00                          no transactional id
0001                        acks 1
00007530
02                          one topic
02 74
02                          one partition
00000002
05 01020304                 records
00 00 00                    tags of partition, topic, request
"""
PRODUCE_V13_JAVA = """
0000 000d 00000009
0003 617070 00
00 ffff 00007530
02
00112233445566778899aabbccddeeff
02 00000002 05 01020304 00 00 00
"""
FETCH_V11_AIOKAFKA = """
0001 000b 00000003
ffff
ffffffff                    not a replica
000001f4                    wait 500 ms
00000001                    min bytes
03200000                    max bytes
01                          read committed
00000000 ffffffff           no session
00000001 0001 74
00000001
00000000                    partition
ffffffff                    leader epoch unknown
0000000000000064            offset 100
ffffffffffffffff            log start
00100000                    partition max bytes
00000000                    nothing forgotten
0000                        rack
"""
FETCH_V18_FOLLOWER = """
0001 0012 00000003
0002 6631 00
000001f4 00000001 03200000 00
00000000 ffffffff
02 00112233445566778899aabbccddeeff
02
00000000 00000005 0000000000000064 00000004 0000000000000000 00100000
01 01 08 0000000000000063   tag 1: high watermark 99
00
01 01                       nothing forgotten, rack empty
01 01 0d                    tag 1: replica state, 13 bytes
00000007 0000000000000008 00
"""
INIT_PRODUCER_ID_V0 = """
0016 0000 00000001
ffff
ffff                        no transactional id
0000ea60                    60 s
"""

FRAMES: list[tuple[str, str, Message]] = [
    (
        API_VERSIONS_V3_LIBRDKAFKA,
        "rdkafka",
        ApiVersionsRequest(client_software_name="librdkafka", client_software_version="2.12.1"),
    ),
    (
        API_VERSIONS_V5_JAVA,
        "producer-1",
        ApiVersionsRequest(client_software_name="apache-kafka-java", client_software_version="4.4.0"),
    ),
    (METADATA_V4_KCAT, "rdkafka", MetadataRequest(topics=[MetadataRequestTopic(name="flights")])),
    (METADATA_V0_ALL, "", MetadataRequest(topics=[])),
    *(
        (
            frame,
            "app",
            ProduceRequest(
                acks=acks,
                timeout_ms=30000,
                topic_data=[
                    TopicProduceData(
                        name=name,
                        topic_id=topic_id,
                        partition_data=[PartitionProduceData(index=2, records=b"\1\2\3\4")],
                    )
                ],
            ),
        )
        for frame, acks, name, topic_id in (
            (PRODUCE_V7_KAFKAJS, -1, "t", bytes(16)),
            (PRODUCE_V9_KAFKA_PYTHON, 1, "t", bytes(16)),
            (PRODUCE_V13_JAVA, -1, "", TOPIC_ID),
        )
    ),
    (
        FETCH_V11_AIOKAFKA,
        "",
        FetchRequest(
            max_wait_ms=500,
            min_bytes=1,
            max_bytes=50 << 20,
            isolation_level=1,
            topics=[
                FetchTopic(
                    topic="t", partitions=[FetchPartition(fetch_offset=100, partition_max_bytes=1 << 20)]
                )
            ],
        ),
    ),
    (
        FETCH_V18_FOLLOWER,
        "f1",
        FetchRequest(
            replica_state=ReplicaState(replica_id=7, replica_epoch=8),
            max_wait_ms=500,
            min_bytes=1,
            max_bytes=50 << 20,
            topics=[
                FetchTopic(
                    topic_id=TOPIC_ID,
                    partitions=[
                        FetchPartition(
                            current_leader_epoch=5,
                            fetch_offset=100,
                            last_fetched_epoch=4,
                            log_start_offset=0,
                            partition_max_bytes=1 << 20,
                            high_watermark=99,
                        )
                    ],
                )
            ],
        ),
    ),
    (INIT_PRODUCER_ID_V0, "", InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60000)),
]


def unhex(text: str) -> bytes:
    """The hex at the start of each line; two spaces begin the remark."""
    data = b""
    for line in text.strip().splitlines():
        for word in line.split("  ")[0].split():
            data += bytes.fromhex(word)
    return data


@pytest.mark.parametrize(("text", "client_id", "expected"), FRAMES)
def test_client_request(text: str, client_id: str, expected: Message) -> None:
    frame = unhex(text)
    header = decode_request_header(frame)
    assert header.supported
    assert header.client_id == (client_id or None)
    message = decode_exact(type(expected), header.api_version, frame, header.body_offset)
    assert message == expected
    head = encode_request_header(header.api_key, header.api_version, header.correlation_id, header.client_id)
    assert head + encode_bytes(message, header.api_version) == frame


STORED: list[tuple[str, int, Message]] = [
    ("0001 67 0001 74 00000003", 0, OffsetCommitKey(group="g", topic="t", partition=3)),
    (
        "000000000000002a ffffffff 0001 6d 0000018bcfe56800",
        3,
        OffsetCommitValue(offset=42, metadata="m", commit_timestamp=1_700_000_000_000),
    ),
    (
        "000000000000002a 0000 0000018bcfe56800 0000018bcfe56801",
        1,
        OffsetCommitValue(offset=42, commit_timestamp=1_700_000_000_000, expire_timestamp=1_700_000_000_001),
    ),
    (
        "000000000000002a 00000005 01 0000018bcfe56800 01 00 10 00112233445566778899aabbccddeeff",
        4,
        OffsetCommitValue(offset=42, leader_epoch=5, commit_timestamp=1_700_000_000_000, topic_id=TOPIC_ID),
    ),
    ("0001 67", 0, GroupMetadataKey(group="g")),
    (
        "0008 636f6e73756d6572 00000001 0005 72616e6765 0001 6d 0000018bcfe56800"
        "00000001 0001 6d ffff 0001 63 0002 2f68 0000ea60 00007530 00000002 0102 00000000",
        3,
        GroupMetadataValue(
            protocol_type="consumer",
            generation=1,
            protocol="range",
            leader="m",
            current_state_timestamp=1_700_000_000_000,
            members=[
                MemberMetadata(
                    member_id="m",
                    client_id="c",
                    client_host="/h",
                    rebalance_timeout=60000,
                    session_timeout=30000,
                    subscription=b"\1\2",
                )
            ],
        ),
    ),
    (
        "00000000 02 02 67 0044 05 62757379 00 00",
        3,
        DeleteGroupsResponse(
            results=[DeletableGroupResult(group_id="g", error_code=68, error_message="busy")]
        ),
    ),
    ("0023 00000000", 0, ApiVersionsResponse(error_code=35)),
]


@pytest.mark.parametrize(("text", "version", "expected"), STORED)
def test_stored_and_answered_bytes(text: str, version: int, expected: Message) -> None:
    data = bytes.fromhex(text.replace(" ", ""))
    assert encode_bytes(expected, version) == data
    assert decode_exact(type(expected), version, data) == expected
