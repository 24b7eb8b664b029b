"""LeaveGroup, API key 13: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class MemberIdentity(Struct):
    member_id: str = ""
    group_instance_id: str | None = None
    reason: str | None = None

    FIELDS = (
        "member_id: string 3+",
        "group_instance_id: string 3+ nullable=3+",
        "reason: string 5+ nullable=5+ ignorable",
    )


class LeaveGroupRequest(Message):
    API_KEY = 13
    VERSIONS = (0, 5)
    FLEXIBLE = 4

    group_id: str = ""
    member_id: str = ""
    members: list[MemberIdentity] = NEW

    FIELDS = (
        "group_id: string 0+",
        "member_id: string 0-2",
        "members: []MemberIdentity 3+",
    )


class MemberResponse(Struct):
    member_id: str = ""
    group_instance_id: str | None = ""
    error_code: int = 0

    FIELDS = (
        "member_id: string 3+",
        "group_instance_id: string 3+ nullable=3+",
        "error_code: int16 3+",
    )


class LeaveGroupResponse(Message):
    API_KEY = 13
    VERSIONS = (0, 5)
    FLEXIBLE = 4

    throttle_time_ms: int = 0
    error_code: int = 0
    members: list[MemberResponse] = NEW

    FIELDS = (
        "throttle_time_ms: int32 1+ ignorable",
        "error_code: int16 0+",
        "members: []MemberResponse 3+",
    )
