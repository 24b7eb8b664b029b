"""DescribeQuorum, API key 55: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, ZERO_UUID, Message, Struct


class DescribeQuorumRequestPartitionData(Struct):
    partition_index: int = 0

    FIELDS = ("partition_index: int32 0+",)


class DescribeQuorumRequestTopicData(Struct):
    topic_name: str = ""
    partitions: list[DescribeQuorumRequestPartitionData] = NEW

    FIELDS = (
        "topic_name: string 0+",
        "partitions: []DescribeQuorumRequestPartitionData 0+",
    )


class DescribeQuorumRequest(Message):
    API_KEY = 55
    VERSIONS = (0, 2)
    FLEXIBLE = 0

    topics: list[DescribeQuorumRequestTopicData] = NEW

    FIELDS = ("topics: []DescribeQuorumRequestTopicData 0+",)


class ReplicaState(Struct):
    replica_id: int = 0
    replica_directory_id: bytes = ZERO_UUID
    log_end_offset: int = 0
    last_fetch_timestamp: int = -1
    last_caught_up_timestamp: int = -1

    FIELDS = (
        "replica_id: int32 0+",
        "replica_directory_id: uuid 2+",
        "log_end_offset: int64 0+",
        "last_fetch_timestamp: int64 1+ ignorable",
        "last_caught_up_timestamp: int64 1+ ignorable",
    )


class DescribeQuorumResponsePartitionData(Struct):
    partition_index: int = 0
    error_code: int = 0
    error_message: str | None = ""
    leader_id: int = 0
    leader_epoch: int = 0
    high_watermark: int = 0
    current_voters: list[ReplicaState] = NEW
    observers: list[ReplicaState] = NEW

    FIELDS = (
        "partition_index: int32 0+",
        "error_code: int16 0+",
        "error_message: string 2+ nullable=2+ ignorable",
        "leader_id: int32 0+",
        "leader_epoch: int32 0+",
        "high_watermark: int64 0+",
        "current_voters: []ReplicaState 0+",
        "observers: []ReplicaState 0+",
    )


class DescribeQuorumResponseTopicData(Struct):
    topic_name: str = ""
    partitions: list[DescribeQuorumResponsePartitionData] = NEW

    FIELDS = (
        "topic_name: string 0+",
        "partitions: []DescribeQuorumResponsePartitionData 0+",
    )


class Listener(Struct):
    name: str = ""
    host: str = ""
    port: int = 0

    FIELDS = (
        "name: string 2+",
        "host: string 2+",
        "port: uint16 2+",
    )


class Node(Struct):
    node_id: int = 0
    listeners: list[Listener] = NEW

    FIELDS = (
        "node_id: int32 2+",
        "listeners: []Listener 2+",
    )


class DescribeQuorumResponse(Message):
    API_KEY = 55
    VERSIONS = (0, 2)
    FLEXIBLE = 0

    error_code: int = 0
    error_message: str | None = ""
    topics: list[DescribeQuorumResponseTopicData] = NEW
    nodes: list[Node] = NEW

    FIELDS = (
        "error_code: int16 0+",
        "error_message: string 2+ nullable=2+ ignorable",
        "topics: []DescribeQuorumResponseTopicData 0+",
        "nodes: []Node 2+",
    )
