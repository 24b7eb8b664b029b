"""ListGroups, API key 16: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class ListGroupsRequest(Message):
    API_KEY = 16
    VERSIONS = (0, 5)
    FLEXIBLE = 3

    states_filter: list[str] = NEW
    types_filter: list[str] = NEW

    FIELDS = (
        "states_filter: []string 4+",
        "types_filter: []string 5+",
    )


class ListedGroup(Struct):
    group_id: str = ""
    protocol_type: str = ""
    group_state: str = ""
    group_type: str = ""

    FIELDS = (
        "group_id: string 0+",
        "protocol_type: string 0+",
        "group_state: string 4+ ignorable",
        "group_type: string 5+ ignorable",
    )


class ListGroupsResponse(Message):
    API_KEY = 16
    VERSIONS = (0, 5)
    FLEXIBLE = 3

    throttle_time_ms: int = 0
    error_code: int = 0
    groups: list[ListedGroup] = NEW

    FIELDS = (
        "throttle_time_ms: int32 1+ ignorable",
        "error_code: int16 0+",
        "groups: []ListedGroup 0+",
    )
