"""CreateTopics, API key 19: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, ZERO_UUID, Message, Struct


class CreatableReplicaAssignment(Struct):
    partition_index: int = 0
    broker_ids: list[int] = NEW

    FIELDS = (
        "partition_index: int32 0+",
        "broker_ids: []int32 0+",
    )


class CreatableTopicConfig(Struct):
    name: str = ""
    value: str | None = ""

    FIELDS = (
        "name: string 0+",
        "value: string 0+ nullable=0+",
    )


class CreatableTopic(Struct):
    name: str = ""
    num_partitions: int = 0
    replication_factor: int = 0
    assignments: list[CreatableReplicaAssignment] = NEW
    configs: list[CreatableTopicConfig] = NEW

    FIELDS = (
        "name: string 0+",
        "num_partitions: int32 0+",
        "replication_factor: int16 0+",
        "assignments: []CreatableReplicaAssignment 0+",
        "configs: []CreatableTopicConfig 0+",
    )


class CreateTopicsRequest(Message):
    API_KEY = 19
    VERSIONS = (2, 7)
    FLEXIBLE = 5

    topics: list[CreatableTopic] = NEW
    timeout_ms: int = 60000
    validate_only: bool = False

    FIELDS = (
        "topics: []CreatableTopic 0+",
        "timeout_ms: int32 0+",
        "validate_only: bool 1+",
    )


class CreatableTopicConfigs(Struct):
    name: str = ""
    value: str | None = ""
    read_only: bool = False
    config_source: int = -1
    is_sensitive: bool = False

    FIELDS = (
        "name: string 5+",
        "value: string 5+ nullable=5+",
        "read_only: bool 5+",
        "config_source: int8 5+ ignorable",
        "is_sensitive: bool 5+",
    )


class CreatableTopicResult(Struct):
    name: str = ""
    topic_id: bytes = ZERO_UUID
    error_code: int = 0
    error_message: str | None = ""
    topic_config_error_code: int = 0
    num_partitions: int = -1
    replication_factor: int = -1
    configs: list[CreatableTopicConfigs] | None = NEW

    FIELDS = (
        "name: string 0+",
        "topic_id: uuid 7+ ignorable",
        "error_code: int16 0+",
        "error_message: string 1+ nullable=0+ ignorable",
        "topic_config_error_code: int16 5+ tag=0 tagged=5+ ignorable",
        "num_partitions: int32 5+ ignorable",
        "replication_factor: int16 5+ ignorable",
        "configs: []CreatableTopicConfigs 5+ nullable=5+ ignorable",
    )


class CreateTopicsResponse(Message):
    API_KEY = 19
    VERSIONS = (2, 7)
    FLEXIBLE = 5

    throttle_time_ms: int = 0
    topics: list[CreatableTopicResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 2+ ignorable",
        "topics: []CreatableTopicResult 0+",
    )
