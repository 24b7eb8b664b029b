"""CreatePartitions, API key 37: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class CreatePartitionsAssignment(Struct):
    broker_ids: list[int] = NEW

    FIELDS = ("broker_ids: []int32 0+",)


class CreatePartitionsTopic(Struct):
    name: str = ""
    count: int = 0
    assignments: list[CreatePartitionsAssignment] | None = NEW

    FIELDS = (
        "name: string 0+",
        "count: int32 0+",
        "assignments: []CreatePartitionsAssignment 0+ nullable=0+",
    )


class CreatePartitionsRequest(Message):
    API_KEY = 37
    VERSIONS = (0, 3)
    FLEXIBLE = 2

    topics: list[CreatePartitionsTopic] = NEW
    timeout_ms: int = 0
    validate_only: bool = False

    FIELDS = (
        "topics: []CreatePartitionsTopic 0+",
        "timeout_ms: int32 0+",
        "validate_only: bool 0+",
    )


class CreatePartitionsTopicResult(Struct):
    name: str = ""
    error_code: int = 0
    error_message: str | None = None

    FIELDS = (
        "name: string 0+",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
    )


class CreatePartitionsResponse(Message):
    API_KEY = 37
    VERSIONS = (0, 3)
    FLEXIBLE = 2

    throttle_time_ms: int = 0
    results: list[CreatePartitionsTopicResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "results: []CreatePartitionsTopicResult 0+",
    )
