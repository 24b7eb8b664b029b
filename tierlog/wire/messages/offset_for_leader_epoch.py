"""OffsetForLeaderEpoch, API key 23: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class OffsetForLeaderPartition(Struct):
    partition: int = 0
    current_leader_epoch: int = -1
    leader_epoch: int = 0

    FIELDS = (
        "partition: int32 0+",
        "current_leader_epoch: int32 2+ ignorable",
        "leader_epoch: int32 0+",
    )


class OffsetForLeaderTopic(Struct):
    topic: str = ""
    partitions: list[OffsetForLeaderPartition] = NEW

    FIELDS = (
        "topic: string 0+",
        "partitions: []OffsetForLeaderPartition 0+",
    )


class OffsetForLeaderEpochRequest(Message):
    API_KEY = 23
    VERSIONS = (2, 4)
    FLEXIBLE = 4

    replica_id: int = -2
    topics: list[OffsetForLeaderTopic] = NEW

    FIELDS = (
        "replica_id: int32 3+ ignorable",
        "topics: []OffsetForLeaderTopic 0+",
    )


class EpochEndOffset(Struct):
    error_code: int = 0
    partition: int = 0
    leader_epoch: int = -1
    end_offset: int = -1

    FIELDS = (
        "error_code: int16 0+",
        "partition: int32 0+",
        "leader_epoch: int32 1+ ignorable",
        "end_offset: int64 0+",
    )


class OffsetForLeaderTopicResult(Struct):
    topic: str = ""
    partitions: list[EpochEndOffset] = NEW

    FIELDS = (
        "topic: string 0+",
        "partitions: []EpochEndOffset 0+",
    )


class OffsetForLeaderEpochResponse(Message):
    API_KEY = 23
    VERSIONS = (2, 4)
    FLEXIBLE = 4

    throttle_time_ms: int = 0
    topics: list[OffsetForLeaderTopicResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 2+ ignorable",
        "topics: []OffsetForLeaderTopicResult 0+",
    )
