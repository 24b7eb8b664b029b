"""AlterPartitionReassignments, API key 45: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class ReassignablePartition(Struct):
    partition_index: int = 0
    replicas: list[int] | None = None

    FIELDS = (
        "partition_index: int32 0+",
        "replicas: []int32 0+ nullable=0+",
    )


class ReassignableTopic(Struct):
    name: str = ""
    partitions: list[ReassignablePartition] = NEW

    FIELDS = (
        "name: string 0+",
        "partitions: []ReassignablePartition 0+",
    )


class AlterPartitionReassignmentsRequest(Message):
    API_KEY = 45
    VERSIONS = (0, 1)
    FLEXIBLE = 0

    timeout_ms: int = 60000
    allow_replication_factor_change: bool = True
    topics: list[ReassignableTopic] = NEW

    FIELDS = (
        "timeout_ms: int32 0+",
        "allow_replication_factor_change: bool 1+",
        "topics: []ReassignableTopic 0+",
    )


class ReassignablePartitionResponse(Struct):
    partition_index: int = 0
    error_code: int = 0
    error_message: str | None = ""

    FIELDS = (
        "partition_index: int32 0+",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
    )


class ReassignableTopicResponse(Struct):
    name: str = ""
    partitions: list[ReassignablePartitionResponse] = NEW

    FIELDS = (
        "name: string 0+",
        "partitions: []ReassignablePartitionResponse 0+",
    )


class AlterPartitionReassignmentsResponse(Message):
    API_KEY = 45
    VERSIONS = (0, 1)
    FLEXIBLE = 0

    throttle_time_ms: int = 0
    allow_replication_factor_change: bool = True
    error_code: int = 0
    error_message: str | None = ""
    responses: list[ReassignableTopicResponse] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "allow_replication_factor_change: bool 1+ ignorable",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "responses: []ReassignableTopicResponse 0+",
    )
