"""DescribeTopicPartitions, API key 75: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, ZERO_UUID, Message, Struct


class TopicRequest(Struct):
    name: str = ""

    FIELDS = ("name: string 0+",)


class DescribeTopicPartitionsRequestCursor(Struct):
    topic_name: str = ""
    partition_index: int = 0

    FIELDS = (
        "topic_name: string 0+",
        "partition_index: int32 0+",
    )


class DescribeTopicPartitionsRequest(Message):
    API_KEY = 75
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    topics: list[TopicRequest] = NEW
    response_partition_limit: int = 2000
    cursor: DescribeTopicPartitionsRequestCursor | None = None

    FIELDS = (
        "topics: []TopicRequest 0+",
        "response_partition_limit: int32 0+",
        "cursor: DescribeTopicPartitionsRequestCursor 0+ nullable=0+",
    )


class DescribeTopicPartitionsResponsePartition(Struct):
    error_code: int = 0
    partition_index: int = 0
    leader_id: int = 0
    leader_epoch: int = -1
    replica_nodes: list[int] = NEW
    isr_nodes: list[int] = NEW
    eligible_leader_replicas: list[int] | None = None
    last_known_elr: list[int] | None = None
    offline_replicas: list[int] = NEW

    FIELDS = (
        "error_code: int16 0+",
        "partition_index: int32 0+",
        "leader_id: int32 0+",
        "leader_epoch: int32 0+ ignorable",
        "replica_nodes: []int32 0+",
        "isr_nodes: []int32 0+",
        "eligible_leader_replicas: []int32 0+ nullable=0+",
        "last_known_elr: []int32 0+ nullable=0+",
        "offline_replicas: []int32 0+ ignorable",
    )


class DescribeTopicPartitionsResponseTopic(Struct):
    error_code: int = 0
    name: str | None = ""
    topic_id: bytes = ZERO_UUID
    is_internal: bool = False
    partitions: list[DescribeTopicPartitionsResponsePartition] = NEW
    topic_authorized_operations: int = -2147483648

    FIELDS = (
        "error_code: int16 0+",
        "name: string 0+ nullable=0+",
        "topic_id: uuid 0+ ignorable",
        "is_internal: bool 0+ ignorable",
        "partitions: []DescribeTopicPartitionsResponsePartition 0+",
        "topic_authorized_operations: int32 0+",
    )


class DescribeTopicPartitionsResponseCursor(Struct):
    topic_name: str = ""
    partition_index: int = 0

    FIELDS = (
        "topic_name: string 0+",
        "partition_index: int32 0+",
    )


class DescribeTopicPartitionsResponse(Message):
    API_KEY = 75
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    throttle_time_ms: int = 0
    topics: list[DescribeTopicPartitionsResponseTopic] = NEW
    next_cursor: DescribeTopicPartitionsResponseCursor | None = None

    FIELDS = (
        "throttle_time_ms: int32 0+ ignorable",
        "topics: []DescribeTopicPartitionsResponseTopic 0+",
        "next_cursor: DescribeTopicPartitionsResponseCursor 0+ nullable=0+",
    )
