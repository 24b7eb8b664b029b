"""OffsetDelete, API key 47: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class OffsetDeleteRequestPartition(Struct):
    partition_index: int = 0

    FIELDS = ("partition_index: int32 0+",)


class OffsetDeleteRequestTopic(Struct):
    name: str = ""
    partitions: list[OffsetDeleteRequestPartition] = NEW

    FIELDS = (
        "name: string 0+",
        "partitions: []OffsetDeleteRequestPartition 0+",
    )


class OffsetDeleteRequest(Message):
    API_KEY = 47
    VERSIONS = (0, 0)

    group_id: str = ""
    topics: list[OffsetDeleteRequestTopic] = NEW

    FIELDS = (
        "group_id: string 0+",
        "topics: []OffsetDeleteRequestTopic 0+",
    )


class OffsetDeleteResponsePartition(Struct):
    partition_index: int = 0
    error_code: int = 0

    FIELDS = (
        "partition_index: int32 0+",
        "error_code: int16 0+",
    )


class OffsetDeleteResponseTopic(Struct):
    name: str = ""
    partitions: list[OffsetDeleteResponsePartition] = NEW

    FIELDS = (
        "name: string 0+",
        "partitions: []OffsetDeleteResponsePartition 0+",
    )


class OffsetDeleteResponse(Message):
    API_KEY = 47
    VERSIONS = (0, 0)

    error_code: int = 0
    throttle_time_ms: int = 0
    topics: list[OffsetDeleteResponseTopic] = NEW

    FIELDS = (
        "error_code: int16 0+",
        "throttle_time_ms: int32 0+ ignorable",
        "topics: []OffsetDeleteResponseTopic 0+",
    )
