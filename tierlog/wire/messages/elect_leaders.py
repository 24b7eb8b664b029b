"""ElectLeaders, API key 43: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class TopicPartitions(Struct):
    topic: str = ""
    partitions: list[int] = NEW

    FIELDS = (
        "topic: string 0+",
        "partitions: []int32 0+",
    )


class ElectLeadersRequest(Message):
    API_KEY = 43
    VERSIONS = (0, 2)
    FLEXIBLE = 2

    election_type: int = 0
    topic_partitions: list[TopicPartitions] | None = NEW
    timeout_ms: int = 60000

    FIELDS = (
        "election_type: int8 1+",
        "topic_partitions: []TopicPartitions 0+ nullable=0+",
        "timeout_ms: int32 0+",
    )


class PartitionResult(Struct):
    partition_id: int = 0
    error_code: int = 0
    error_message: str | None = ""

    FIELDS = (
        "partition_id: int32 0+",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
    )


class ReplicaElectionResult(Struct):
    topic: str = ""
    partition_result: list[PartitionResult] = NEW

    FIELDS = (
        "topic: string 0+",
        "partition_result: []PartitionResult 0+",
    )


class ElectLeadersResponse(Message):
    API_KEY = 43
    VERSIONS = (0, 2)
    FLEXIBLE = 2

    throttle_time_ms: int = 0
    error_code: int = 0
    replica_election_results: list[ReplicaElectionResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "error_code: int16 1+",
        "replica_election_results: []ReplicaElectionResult 0+",
    )
