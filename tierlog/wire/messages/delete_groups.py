"""DeleteGroups, API key 42: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class DeleteGroupsRequest(Message):
    API_KEY = 42
    VERSIONS = (0, 3)
    FLEXIBLE = 2

    groups_names: list[str] = NEW

    FIELDS = ("groups_names: []string 0+",)


class DeletableGroupResult(Struct):
    group_id: str = ""
    error_code: int = 0
    error_message: str | None = None

    FIELDS = (
        "group_id: string 0+",
        "error_code: int16 0+",
        "error_message: string 3+ nullable=3+ ignorable",
    )


class DeleteGroupsResponse(Message):
    API_KEY = 42
    VERSIONS = (0, 3)
    FLEXIBLE = 2

    throttle_time_ms: int = 0
    results: list[DeletableGroupResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "results: []DeletableGroupResult 0+",
    )
