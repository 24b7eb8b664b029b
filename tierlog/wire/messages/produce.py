"""Produce, API key 0: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, ZERO_UUID, Message, Records, Struct


class PartitionProduceData(Struct):
    index: int = 0
    records: Records = None

    FIELDS = (
        "index: int32 0+",
        "records: records 0+ nullable=0+",
    )


class TopicProduceData(Struct):
    name: str = ""
    topic_id: bytes = ZERO_UUID
    partition_data: list[PartitionProduceData] = NEW

    FIELDS = (
        "name: string 0-12 ignorable",
        "topic_id: uuid 13+ ignorable",
        "partition_data: []PartitionProduceData 0+",
    )


class ProduceRequest(Message):
    API_KEY = 0
    VERSIONS = (3, 13)
    FLEXIBLE = 9

    transactional_id: str | None = None
    acks: int = 0
    timeout_ms: int = 0
    topic_data: list[TopicProduceData] = NEW

    FIELDS = (
        "transactional_id: string 3+ nullable=3+",
        "acks: int16 0+",
        "timeout_ms: int32 0+",
        "topic_data: []TopicProduceData 0+",
    )


class BatchIndexAndErrorMessage(Struct):
    batch_index: int = 0
    batch_index_error_message: str | None = None

    FIELDS = (
        "batch_index: int32 8+",
        "batch_index_error_message: string 8+ nullable=8+",
    )


class LeaderIdAndEpoch(Struct):
    leader_id: int = -1
    leader_epoch: int = -1

    FIELDS = (
        "leader_id: int32 10+",
        "leader_epoch: int32 10+",
    )


class PartitionProduceResponse(Struct):
    index: int = 0
    error_code: int = 0
    base_offset: int = 0
    log_append_time_ms: int = -1
    log_start_offset: int = -1
    record_errors: list[BatchIndexAndErrorMessage] = NEW
    error_message: str | None = None
    current_leader: LeaderIdAndEpoch = NEW

    FIELDS = (
        "index: int32 0+",
        "error_code: int16 0+",
        "base_offset: int64 0+",
        "log_append_time_ms: int64 2+ ignorable",
        "log_start_offset: int64 5+ ignorable",
        "record_errors: []BatchIndexAndErrorMessage 8+ ignorable",
        "error_message: string 8+ nullable=8+ ignorable",
        "current_leader: LeaderIdAndEpoch 10+ tag=0 tagged=10+",
    )


class TopicProduceResponse(Struct):
    name: str = ""
    topic_id: bytes = ZERO_UUID
    partition_responses: list[PartitionProduceResponse] = NEW

    FIELDS = (
        "name: string 0-12 ignorable",
        "topic_id: uuid 13+ ignorable",
        "partition_responses: []PartitionProduceResponse 0+",
    )


class NodeEndpoint(Struct):
    node_id: int = 0
    host: str = ""
    port: int = 0
    rack: str | None = None

    FIELDS = (
        "node_id: int32 10+",
        "host: string 10+",
        "port: int32 10+",
        "rack: string 10+ nullable=10+",
    )


class ProduceResponse(Message):
    API_KEY = 0
    VERSIONS = (3, 13)
    FLEXIBLE = 9

    responses: list[TopicProduceResponse] = NEW
    throttle_time_ms: int = 0
    node_endpoints: list[NodeEndpoint] = NEW

    FIELDS = (
        "responses: []TopicProduceResponse 0+",
        "throttle_time_ms: int32 1+ ignorable",
        "node_endpoints: []NodeEndpoint 10+ tag=0 tagged=10+",
    )
