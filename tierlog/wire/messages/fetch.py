"""Fetch, API key 1: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, ZERO_UUID, Message, Records, Struct


class ReplicaState(Struct):
    replica_id: int = -1
    replica_epoch: int = -1

    FIELDS = (
        "replica_id: int32 15+",
        "replica_epoch: int64 15+",
    )


class FetchPartition(Struct):
    partition: int = 0
    current_leader_epoch: int = -1
    fetch_offset: int = 0
    last_fetched_epoch: int = -1
    log_start_offset: int = -1
    partition_max_bytes: int = 0
    replica_directory_id: bytes = ZERO_UUID
    high_watermark: int = 9223372036854775807

    FIELDS = (
        "partition: int32 0+",
        "current_leader_epoch: int32 9+ ignorable",
        "fetch_offset: int64 0+",
        "last_fetched_epoch: int32 12+",
        "log_start_offset: int64 5+ ignorable",
        "partition_max_bytes: int32 0+",
        "replica_directory_id: uuid 17+ tag=0 tagged=17+ ignorable",
        "high_watermark: int64 18+ tag=1 tagged=18+ ignorable",
    )


class FetchTopic(Struct):
    topic: str = ""
    topic_id: bytes = ZERO_UUID
    partitions: list[FetchPartition] = NEW

    FIELDS = (
        "topic: string 0-12 ignorable",
        "topic_id: uuid 13+ ignorable",
        "partitions: []FetchPartition 0+",
    )


class ForgottenTopic(Struct):
    topic: str = ""
    topic_id: bytes = ZERO_UUID
    partitions: list[int] = NEW

    FIELDS = (
        "topic: string 7-12 ignorable",
        "topic_id: uuid 13+ ignorable",
        "partitions: []int32 7+",
    )


class FetchRequest(Message):
    API_KEY = 1
    VERSIONS = (4, 18)
    FLEXIBLE = 12

    cluster_id: str | None = None
    replica_id: int = -1
    replica_state: ReplicaState = NEW
    max_wait_ms: int = 0
    min_bytes: int = 0
    max_bytes: int = 2147483647
    isolation_level: int = 0
    session_id: int = 0
    session_epoch: int = -1
    topics: list[FetchTopic] = NEW
    forgotten_topics_data: list[ForgottenTopic] = NEW
    rack_id: str = ""

    FIELDS = (
        "cluster_id: string 12+ nullable=12+ tag=0 tagged=12+ ignorable",
        "replica_id: int32 0-14",
        "replica_state: ReplicaState 15+ tag=1 tagged=15+",
        "max_wait_ms: int32 0+",
        "min_bytes: int32 0+",
        "max_bytes: int32 3+ ignorable",
        "isolation_level: int8 4+ ignorable",
        "session_id: int32 7+ ignorable",
        "session_epoch: int32 7+ ignorable",
        "topics: []FetchTopic 0+",
        "forgotten_topics_data: []ForgottenTopic 7+",
        "rack_id: string 11+ ignorable",
    )


class EpochEndOffset(Struct):
    epoch: int = -1
    end_offset: int = -1

    FIELDS = (
        "epoch: int32 12+",
        "end_offset: int64 12+",
    )


class LeaderIdAndEpoch(Struct):
    leader_id: int = -1
    leader_epoch: int = -1

    FIELDS = (
        "leader_id: int32 12+",
        "leader_epoch: int32 12+",
    )


class SnapshotId(Struct):
    end_offset: int = -1
    epoch: int = -1

    FIELDS = (
        "end_offset: int64 0+",
        "epoch: int32 0+",
    )


class AbortedTransaction(Struct):
    producer_id: int = 0
    first_offset: int = 0

    FIELDS = (
        "producer_id: int64 4+",
        "first_offset: int64 4+",
    )


class PartitionData(Struct):
    partition_index: int = 0
    error_code: int = 0
    high_watermark: int = 0
    last_stable_offset: int = -1
    log_start_offset: int = -1
    diverging_epoch: EpochEndOffset = NEW
    current_leader: LeaderIdAndEpoch = NEW
    snapshot_id: SnapshotId = NEW
    aborted_transactions: list[AbortedTransaction] | None = NEW
    preferred_read_replica: int = -1
    records: Records = None

    FIELDS = (
        "partition_index: int32 0+",
        "error_code: int16 0+",
        "high_watermark: int64 0+",
        "last_stable_offset: int64 4+ ignorable",
        "log_start_offset: int64 5+ ignorable",
        "diverging_epoch: EpochEndOffset 12+ tag=0 tagged=12+",
        "current_leader: LeaderIdAndEpoch 12+ tag=1 tagged=12+",
        "snapshot_id: SnapshotId 12+ tag=2 tagged=12+",
        "aborted_transactions: []AbortedTransaction 4+ nullable=4+ ignorable",
        "preferred_read_replica: int32 11+",
        "records: records 0+ nullable=0+",
    )


class FetchableTopicResponse(Struct):
    topic: str = ""
    topic_id: bytes = ZERO_UUID
    partitions: list[PartitionData] = NEW

    FIELDS = (
        "topic: string 0-12 ignorable",
        "topic_id: uuid 13+ ignorable",
        "partitions: []PartitionData 0+",
    )


class NodeEndpoint(Struct):
    node_id: int = 0
    host: str = ""
    port: int = 0
    rack: str | None = None

    FIELDS = (
        "node_id: int32 16+",
        "host: string 16+",
        "port: int32 16+",
        "rack: string 16+ nullable=16+",
    )


class FetchResponse(Message):
    API_KEY = 1
    VERSIONS = (4, 18)
    FLEXIBLE = 12

    throttle_time_ms: int = 0
    error_code: int = 0
    session_id: int = 0
    responses: list[FetchableTopicResponse] = NEW
    node_endpoints: list[NodeEndpoint] = NEW

    FIELDS = (
        "throttle_time_ms: int32 1+ ignorable",
        "error_code: int16 7+ ignorable",
        "session_id: int32 7+",
        "responses: []FetchableTopicResponse 0+",
        "node_endpoints: []NodeEndpoint 16+ tag=0 tagged=16+",
    )
