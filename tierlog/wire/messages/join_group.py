"""JoinGroup, API key 11: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class JoinGroupRequestProtocol(Struct):
    name: str = ""
    metadata: bytes = b""

    FIELDS = (
        "name: string 0+",
        "metadata: bytes 0+",
    )


class JoinGroupRequest(Message):
    API_KEY = 11
    VERSIONS = (0, 9)
    FLEXIBLE = 6

    group_id: str = ""
    session_timeout_ms: int = 0
    rebalance_timeout_ms: int = -1
    member_id: str = ""
    group_instance_id: str | None = None
    protocol_type: str = ""
    protocols: list[JoinGroupRequestProtocol] = NEW
    reason: str | None = None

    FIELDS = (
        "group_id: string 0+",
        "session_timeout_ms: int32 0+",
        "rebalance_timeout_ms: int32 1+ ignorable",
        "member_id: string 0+",
        "group_instance_id: string 5+ nullable=5+",
        "protocol_type: string 0+",
        "protocols: []JoinGroupRequestProtocol 0+",
        "reason: string 8+ nullable=8+ ignorable",
    )


class JoinGroupResponseMember(Struct):
    member_id: str = ""
    group_instance_id: str | None = None
    metadata: bytes = b""

    FIELDS = (
        "member_id: string 0+",
        "group_instance_id: string 5+ nullable=5+ ignorable",
        "metadata: bytes 0+",
    )


class JoinGroupResponse(Message):
    API_KEY = 11
    VERSIONS = (0, 9)
    FLEXIBLE = 6

    throttle_time_ms: int = 0
    error_code: int = 0
    generation_id: int = -1
    protocol_type: str | None = None
    protocol_name: str | None = ""
    leader: str = ""
    skip_assignment: bool = False
    member_id: str = ""
    members: list[JoinGroupResponseMember] = NEW

    FIELDS = (
        "throttle_time_ms: int32 2+ ignorable",
        "error_code: int16 0+",
        "generation_id: int32 0+",
        "protocol_type: string 7+ nullable=7+ ignorable",
        "protocol_name: string 0+ nullable=7+",
        "leader: string 0+",
        "skip_assignment: bool 9+",
        "member_id: string 0+",
        "members: []JoinGroupResponseMember 0+",
    )
