"""DeleteRecords, API key 21: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class DeleteRecordsPartition(Struct):
    partition_index: int = 0
    offset: int = 0

    FIELDS = (
        "partition_index: int32 0+",
        "offset: int64 0+",
    )


class DeleteRecordsTopic(Struct):
    name: str = ""
    partitions: list[DeleteRecordsPartition] = NEW

    FIELDS = (
        "name: string 0+",
        "partitions: []DeleteRecordsPartition 0+",
    )


class DeleteRecordsRequest(Message):
    API_KEY = 21
    VERSIONS = (0, 2)
    FLEXIBLE = 2

    topics: list[DeleteRecordsTopic] = NEW
    timeout_ms: int = 0

    FIELDS = (
        "topics: []DeleteRecordsTopic 0+",
        "timeout_ms: int32 0+",
    )


class DeleteRecordsPartitionResult(Struct):
    partition_index: int = 0
    low_watermark: int = 0
    error_code: int = 0

    FIELDS = (
        "partition_index: int32 0+",
        "low_watermark: int64 0+",
        "error_code: int16 0+",
    )


class DeleteRecordsTopicResult(Struct):
    name: str = ""
    partitions: list[DeleteRecordsPartitionResult] = NEW

    FIELDS = (
        "name: string 0+",
        "partitions: []DeleteRecordsPartitionResult 0+",
    )


class DeleteRecordsResponse(Message):
    API_KEY = 21
    VERSIONS = (0, 2)
    FLEXIBLE = 2

    throttle_time_ms: int = 0
    topics: list[DeleteRecordsTopicResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "topics: []DeleteRecordsTopicResult 0+",
    )
