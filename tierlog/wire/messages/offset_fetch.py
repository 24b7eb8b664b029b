"""OffsetFetch, API key 9: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, ZERO_UUID, Message, Struct


class OffsetFetchRequestTopic(Struct):
    name: str = ""
    partition_indexes: list[int] = NEW

    FIELDS = (
        "name: string 0-7",
        "partition_indexes: []int32 0-7",
    )


class OffsetFetchRequestTopics(Struct):
    name: str = ""
    topic_id: bytes = ZERO_UUID
    partition_indexes: list[int] = NEW

    FIELDS = (
        "name: string 8-9 ignorable",
        "topic_id: uuid 10+ ignorable",
        "partition_indexes: []int32 8+",
    )


class OffsetFetchRequestGroup(Struct):
    group_id: str = ""
    member_id: str | None = None
    member_epoch: int = -1
    topics: list[OffsetFetchRequestTopics] | None = NEW

    FIELDS = (
        "group_id: string 8+",
        "member_id: string 9+ nullable=9+ ignorable",
        "member_epoch: int32 9+ ignorable",
        "topics: []OffsetFetchRequestTopics 8+ nullable=8+",
    )


class OffsetFetchRequest(Message):
    API_KEY = 9
    VERSIONS = (1, 10)
    FLEXIBLE = 6

    group_id: str = ""
    topics: list[OffsetFetchRequestTopic] | None = NEW
    groups: list[OffsetFetchRequestGroup] = NEW
    require_stable: bool = False

    FIELDS = (
        "group_id: string 0-7",
        "topics: []OffsetFetchRequestTopic 0-7 nullable=2-7",
        "groups: []OffsetFetchRequestGroup 8+",
        "require_stable: bool 7+",
    )


class OffsetFetchResponsePartition(Struct):
    partition_index: int = 0
    committed_offset: int = 0
    committed_leader_epoch: int = -1
    metadata: str | None = ""
    error_code: int = 0

    FIELDS = (
        "partition_index: int32 0-7",
        "committed_offset: int64 0-7",
        "committed_leader_epoch: int32 5-7 ignorable",
        "metadata: string 0-7 nullable=0-7",
        "error_code: int16 0-7",
    )


class OffsetFetchResponseTopic(Struct):
    name: str = ""
    partitions: list[OffsetFetchResponsePartition] = NEW

    FIELDS = (
        "name: string 0-7",
        "partitions: []OffsetFetchResponsePartition 0-7",
    )


class OffsetFetchResponsePartitions(Struct):
    partition_index: int = 0
    committed_offset: int = 0
    committed_leader_epoch: int = -1
    metadata: str | None = ""
    error_code: int = 0

    FIELDS = (
        "partition_index: int32 8+",
        "committed_offset: int64 8+",
        "committed_leader_epoch: int32 8+ ignorable",
        "metadata: string 8+ nullable=8+",
        "error_code: int16 8+",
    )


class OffsetFetchResponseTopics(Struct):
    name: str = ""
    topic_id: bytes = ZERO_UUID
    partitions: list[OffsetFetchResponsePartitions] = NEW

    FIELDS = (
        "name: string 8-9 ignorable",
        "topic_id: uuid 10+ ignorable",
        "partitions: []OffsetFetchResponsePartitions 8+",
    )


class OffsetFetchResponseGroup(Struct):
    group_id: str = ""
    topics: list[OffsetFetchResponseTopics] = NEW
    error_code: int = 0

    FIELDS = (
        "group_id: string 8+",
        "topics: []OffsetFetchResponseTopics 8+",
        "error_code: int16 8+",
    )


class OffsetFetchResponse(Message):
    API_KEY = 9
    VERSIONS = (1, 10)
    FLEXIBLE = 6

    throttle_time_ms: int = 0
    topics: list[OffsetFetchResponseTopic] = NEW
    error_code: int = 0
    groups: list[OffsetFetchResponseGroup] = NEW

    FIELDS = (
        "throttle_time_ms: int32 3+ ignorable",
        "topics: []OffsetFetchResponseTopic 0-7",
        "error_code: int16 2-7 ignorable",
        "groups: []OffsetFetchResponseGroup 8+",
    )
