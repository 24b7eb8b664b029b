"""CreateAcls, API key 30: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class AclCreation(Struct):
    resource_type: int = 0
    resource_name: str = ""
    resource_pattern_type: int = 3
    principal: str = ""
    host: str = ""
    operation: int = 0
    permission_type: int = 0

    FIELDS = (
        "resource_type: int8 0+",
        "resource_name: string 0+",
        "resource_pattern_type: int8 1+",
        "principal: string 0+",
        "host: string 0+",
        "operation: int8 0+",
        "permission_type: int8 0+",
    )


class CreateAclsRequest(Message):
    API_KEY = 30
    VERSIONS = (1, 3)
    FLEXIBLE = 2

    creations: list[AclCreation] = NEW

    FIELDS = ("creations: []AclCreation 0+",)


class AclCreationResult(Struct):
    error_code: int = 0
    error_message: str | None = ""

    FIELDS = (
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
    )


class CreateAclsResponse(Message):
    API_KEY = 30
    VERSIONS = (1, 3)
    FLEXIBLE = 2

    throttle_time_ms: int = 0
    results: list[AclCreationResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "results: []AclCreationResult 0+",
    )
