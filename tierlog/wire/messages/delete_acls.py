"""DeleteAcls, API key 31: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class DeleteAclsFilter(Struct):
    resource_type_filter: int = 0
    resource_name_filter: str | None = ""
    pattern_type_filter: int = 3
    principal_filter: str | None = ""
    host_filter: str | None = ""
    operation: int = 0
    permission_type: int = 0

    FIELDS = (
        "resource_type_filter: int8 0+",
        "resource_name_filter: string 0+ nullable=0+",
        "pattern_type_filter: int8 1+",
        "principal_filter: string 0+ nullable=0+",
        "host_filter: string 0+ nullable=0+",
        "operation: int8 0+",
        "permission_type: int8 0+",
    )


class DeleteAclsRequest(Message):
    API_KEY = 31
    VERSIONS = (1, 3)
    FLEXIBLE = 2

    filters: list[DeleteAclsFilter] = NEW

    FIELDS = ("filters: []DeleteAclsFilter 0+",)


class DeleteAclsMatchingAcl(Struct):
    error_code: int = 0
    error_message: str | None = ""
    resource_type: int = 0
    resource_name: str = ""
    pattern_type: int = 3
    principal: str = ""
    host: str = ""
    operation: int = 0
    permission_type: int = 0

    FIELDS = (
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "resource_type: int8 0+",
        "resource_name: string 0+",
        "pattern_type: int8 1+",
        "principal: string 0+",
        "host: string 0+",
        "operation: int8 0+",
        "permission_type: int8 0+",
    )


class DeleteAclsFilterResult(Struct):
    error_code: int = 0
    error_message: str | None = ""
    matching_acls: list[DeleteAclsMatchingAcl] = NEW

    FIELDS = (
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "matching_acls: []DeleteAclsMatchingAcl 0+",
    )


class DeleteAclsResponse(Message):
    API_KEY = 31
    VERSIONS = (1, 3)
    FLEXIBLE = 2

    throttle_time_ms: int = 0
    filter_results: list[DeleteAclsFilterResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "filter_results: []DeleteAclsFilterResult 0+",
    )
