"""OffsetCommit, API key 8: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, ZERO_UUID, Message, Struct


class OffsetCommitRequestPartition(Struct):
    partition_index: int = 0
    committed_offset: int = 0
    committed_leader_epoch: int = -1
    committed_metadata: str | None = ""

    FIELDS = (
        "partition_index: int32 0+",
        "committed_offset: int64 0+",
        "committed_leader_epoch: int32 6+ ignorable",
        "committed_metadata: string 0+ nullable=0+",
    )


class OffsetCommitRequestTopic(Struct):
    name: str = ""
    topic_id: bytes = ZERO_UUID
    partitions: list[OffsetCommitRequestPartition] = NEW

    FIELDS = (
        "name: string 0-9 ignorable",
        "topic_id: uuid 10+ ignorable",
        "partitions: []OffsetCommitRequestPartition 0+",
    )


class OffsetCommitRequest(Message):
    API_KEY = 8
    VERSIONS = (2, 10)
    FLEXIBLE = 8

    group_id: str = ""
    generation_id_or_member_epoch: int = -1
    member_id: str = ""
    group_instance_id: str | None = None
    retention_time_ms: int = -1
    topics: list[OffsetCommitRequestTopic] = NEW

    FIELDS = (
        "group_id: string 0+",
        "generation_id_or_member_epoch: int32 1+ ignorable",
        "member_id: string 1+ ignorable",
        "group_instance_id: string 7+ nullable=7+",
        "retention_time_ms: int64 2-4 ignorable",
        "topics: []OffsetCommitRequestTopic 0+",
    )


class OffsetCommitResponsePartition(Struct):
    partition_index: int = 0
    error_code: int = 0

    FIELDS = (
        "partition_index: int32 0+",
        "error_code: int16 0+",
    )


class OffsetCommitResponseTopic(Struct):
    name: str = ""
    topic_id: bytes = ZERO_UUID
    partitions: list[OffsetCommitResponsePartition] = NEW

    FIELDS = (
        "name: string 0-9 ignorable",
        "topic_id: uuid 10+ ignorable",
        "partitions: []OffsetCommitResponsePartition 0+",
    )


class OffsetCommitResponse(Message):
    API_KEY = 8
    VERSIONS = (2, 10)
    FLEXIBLE = 8

    throttle_time_ms: int = 0
    topics: list[OffsetCommitResponseTopic] = NEW

    FIELDS = (
        "throttle_time_ms: int32 3+ ignorable",
        "topics: []OffsetCommitResponseTopic 0+",
    )
