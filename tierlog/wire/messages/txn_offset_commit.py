"""TxnOffsetCommit, API key 28: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, ZERO_UUID, Message, Struct


class TxnOffsetCommitRequestPartition(Struct):
    partition_index: int = 0
    committed_offset: int = 0
    committed_leader_epoch: int = -1
    committed_metadata: str | None = ""

    FIELDS = (
        "partition_index: int32 0+",
        "committed_offset: int64 0+",
        "committed_leader_epoch: int32 2+ ignorable",
        "committed_metadata: string 0+ nullable=0+",
    )


class TxnOffsetCommitRequestTopic(Struct):
    name: str = ""
    topic_id: bytes = ZERO_UUID
    partitions: list[TxnOffsetCommitRequestPartition] = NEW

    FIELDS = (
        "name: string 0-5 ignorable",
        "topic_id: uuid 6+ ignorable",
        "partitions: []TxnOffsetCommitRequestPartition 0+",
    )


class TxnOffsetCommitRequest(Message):
    API_KEY = 28
    VERSIONS = (0, 6)
    FLEXIBLE = 3

    transactional_id: str = ""
    group_id: str = ""
    producer_id: int = 0
    producer_epoch: int = 0
    generation_id_or_member_epoch: int = -1
    member_id: str = ""
    group_instance_id: str | None = None
    topics: list[TxnOffsetCommitRequestTopic] = NEW

    FIELDS = (
        "transactional_id: string 0+",
        "group_id: string 0+",
        "producer_id: int64 0+",
        "producer_epoch: int16 0+",
        "generation_id_or_member_epoch: int32 3+",
        "member_id: string 3+",
        "group_instance_id: string 3+ nullable=3+",
        "topics: []TxnOffsetCommitRequestTopic 0+",
    )


class TxnOffsetCommitResponsePartition(Struct):
    partition_index: int = 0
    error_code: int = 0

    FIELDS = (
        "partition_index: int32 0+",
        "error_code: int16 0+",
    )


class TxnOffsetCommitResponseTopic(Struct):
    name: str = ""
    topic_id: bytes = ZERO_UUID
    partitions: list[TxnOffsetCommitResponsePartition] = NEW

    FIELDS = (
        "name: string 0-5 ignorable",
        "topic_id: uuid 6+ ignorable",
        "partitions: []TxnOffsetCommitResponsePartition 0+",
    )


class TxnOffsetCommitResponse(Message):
    API_KEY = 28
    VERSIONS = (0, 6)
    FLEXIBLE = 3

    throttle_time_ms: int = 0
    topics: list[TxnOffsetCommitResponseTopic] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "topics: []TxnOffsetCommitResponseTopic 0+",
    )
