"""Data messages: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, ZERO_UUID, Message, Struct


class OffsetCommitKey(Message):
    API_KEY = 1
    VERSIONS = (0, 0)

    group: str = ""
    topic: str = ""
    partition: int = 0

    FIELDS = (
        "group: string 0",
        "topic: string 0",
        "partition: int32 0",
    )


class OffsetCommitValue(Message):
    API_KEY = 1
    VERSIONS = (0, 4)
    FLEXIBLE = 4

    offset: int = 0
    leader_epoch: int = -1
    metadata: str = ""
    commit_timestamp: int = 0
    expire_timestamp: int = -1
    topic_id: bytes = ZERO_UUID

    FIELDS = (
        "offset: int64 0+",
        "leader_epoch: int32 3+ ignorable",
        "metadata: string 0+",
        "commit_timestamp: int64 0+",
        "expire_timestamp: int64 1 ignorable",
        "topic_id: uuid 4+ tag=0 tagged=4+ ignorable",
    )


class GroupMetadataKey(Message):
    API_KEY = 2
    VERSIONS = (0, 0)

    group: str = ""

    FIELDS = ("group: string 0",)


class MemberMetadata(Struct):
    member_id: str = ""
    group_instance_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout: int = -1
    session_timeout: int = 0
    subscription: bytes = b""
    assignment: bytes = b""

    FIELDS = (
        "member_id: string 0+",
        "group_instance_id: string 3+ nullable=3+ ignorable",
        "client_id: string 0+",
        "client_host: string 0+",
        "rebalance_timeout: int32 1+ ignorable",
        "session_timeout: int32 0+",
        "subscription: bytes 0+",
        "assignment: bytes 0+",
    )


class GroupMetadataValue(Message):
    API_KEY = 2
    VERSIONS = (0, 4)
    FLEXIBLE = 4

    protocol_type: str = ""
    generation: int = 0
    protocol: str | None = ""
    leader: str | None = ""
    current_state_timestamp: int = -1
    members: list[MemberMetadata] = NEW

    FIELDS = (
        "protocol_type: string 0+",
        "generation: int32 0+",
        "protocol: string 0+ nullable=0+",
        "leader: string 0+ nullable=0+",
        "current_state_timestamp: int64 2+ ignorable",
        "members: []MemberMetadata 0+",
    )
