"""Data messages: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class ConsumerProtocolSubscriptionTopicPartition(Struct):
    topic: str = ""
    partitions: list[int] = NEW

    FIELDS = (
        "topic: string 1+",
        "partitions: []int32 1+",
    )


class ConsumerProtocolSubscription(Message):
    VERSIONS = (0, 3)

    topics: list[str] = NEW
    user_data: bytes | None = None
    owned_partitions: list[ConsumerProtocolSubscriptionTopicPartition] = NEW
    generation_id: int = -1
    rack_id: str | None = None

    FIELDS = (
        "topics: []string 0+",
        "user_data: bytes 0+ nullable=0+",
        "owned_partitions: []ConsumerProtocolSubscriptionTopicPartition 1+ ignorable",
        "generation_id: int32 2+ ignorable",
        "rack_id: string 3+ nullable=3+ ignorable",
    )


class ConsumerProtocolAssignmentTopicPartition(Struct):
    topic: str = ""
    partitions: list[int] = NEW

    FIELDS = (
        "topic: string 0+",
        "partitions: []int32 0+",
    )


class ConsumerProtocolAssignment(Message):
    VERSIONS = (0, 3)

    assigned_partitions: list[ConsumerProtocolAssignmentTopicPartition] = NEW
    user_data: bytes | None = None

    FIELDS = (
        "assigned_partitions: []ConsumerProtocolAssignmentTopicPartition 0+",
        "user_data: bytes 0+ nullable=0+",
    )
