"""DescribeProducers, API key 61: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class TopicRequest(Struct):
    name: str = ""
    partition_indexes: list[int] = NEW

    FIELDS = (
        "name: string 0+",
        "partition_indexes: []int32 0+",
    )


class DescribeProducersRequest(Message):
    API_KEY = 61
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    topics: list[TopicRequest] = NEW

    FIELDS = ("topics: []TopicRequest 0+",)


class ProducerState(Struct):
    producer_id: int = 0
    producer_epoch: int = 0
    last_sequence: int = -1
    last_timestamp: int = -1
    coordinator_epoch: int = 0
    current_txn_start_offset: int = -1

    FIELDS = (
        "producer_id: int64 0+",
        "producer_epoch: int32 0+",
        "last_sequence: int32 0+",
        "last_timestamp: int64 0+",
        "coordinator_epoch: int32 0+",
        "current_txn_start_offset: int64 0+",
    )


class PartitionResponse(Struct):
    partition_index: int = 0
    error_code: int = 0
    error_message: str | None = None
    active_producers: list[ProducerState] = NEW

    FIELDS = (
        "partition_index: int32 0+",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "active_producers: []ProducerState 0+",
    )


class TopicResponse(Struct):
    name: str = ""
    partitions: list[PartitionResponse] = NEW

    FIELDS = (
        "name: string 0+",
        "partitions: []PartitionResponse 0+",
    )


class DescribeProducersResponse(Message):
    API_KEY = 61
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    throttle_time_ms: int = 0
    topics: list[TopicResponse] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "topics: []TopicResponse 0+",
    )
