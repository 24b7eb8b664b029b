"""ListPartitionReassignments, API key 46: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class ListPartitionReassignmentsTopics(Struct):
    name: str = ""
    partition_indexes: list[int] = NEW

    FIELDS = (
        "name: string 0+",
        "partition_indexes: []int32 0+",
    )


class ListPartitionReassignmentsRequest(Message):
    API_KEY = 46
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    timeout_ms: int = 60000
    topics: list[ListPartitionReassignmentsTopics] | None = None

    FIELDS = (
        "timeout_ms: int32 0+",
        "topics: []ListPartitionReassignmentsTopics 0+ nullable=0+",
    )


class OngoingPartitionReassignment(Struct):
    partition_index: int = 0
    replicas: list[int] = NEW
    adding_replicas: list[int] = NEW
    removing_replicas: list[int] = NEW

    FIELDS = (
        "partition_index: int32 0+",
        "replicas: []int32 0+",
        "adding_replicas: []int32 0+",
        "removing_replicas: []int32 0+",
    )


class OngoingTopicReassignment(Struct):
    name: str = ""
    partitions: list[OngoingPartitionReassignment] = NEW

    FIELDS = (
        "name: string 0+",
        "partitions: []OngoingPartitionReassignment 0+",
    )


class ListPartitionReassignmentsResponse(Message):
    API_KEY = 46
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    throttle_time_ms: int = 0
    error_code: int = 0
    error_message: str | None = ""
    topics: list[OngoingTopicReassignment] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "topics: []OngoingTopicReassignment 0+",
    )
