"""DeleteTopics, API key 20: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, ZERO_UUID, Message, Struct


class DeleteTopicState(Struct):
    name: str | None = None
    topic_id: bytes = ZERO_UUID

    FIELDS = (
        "name: string 6+ nullable=6+",
        "topic_id: uuid 6+",
    )


class DeleteTopicsRequest(Message):
    API_KEY = 20
    VERSIONS = (1, 6)
    FLEXIBLE = 4

    topics: list[DeleteTopicState] = NEW
    topic_names: list[str] = NEW
    timeout_ms: int = 0

    FIELDS = (
        "topics: []DeleteTopicState 6+",
        "topic_names: []string 0-5 ignorable",
        "timeout_ms: int32 0+",
    )


class DeletableTopicResult(Struct):
    name: str | None = ""
    topic_id: bytes = ZERO_UUID
    error_code: int = 0
    error_message: str | None = None

    FIELDS = (
        "name: string 0+ nullable=6+",
        "topic_id: uuid 6+ ignorable",
        "error_code: int16 0+",
        "error_message: string 5+ nullable=5+ ignorable",
    )


class DeleteTopicsResponse(Message):
    API_KEY = 20
    VERSIONS = (1, 6)
    FLEXIBLE = 4

    throttle_time_ms: int = 0
    responses: list[DeletableTopicResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 1+ ignorable",
        "responses: []DeletableTopicResult 0+",
    )
