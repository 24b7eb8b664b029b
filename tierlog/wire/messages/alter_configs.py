"""AlterConfigs, API key 33: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class AlterableConfig(Struct):
    name: str = ""
    value: str | None = ""

    FIELDS = (
        "name: string 0+",
        "value: string 0+ nullable=0+",
    )


class AlterConfigsResource(Struct):
    resource_type: int = 0
    resource_name: str = ""
    configs: list[AlterableConfig] = NEW

    FIELDS = (
        "resource_type: int8 0+",
        "resource_name: string 0+",
        "configs: []AlterableConfig 0+",
    )


class AlterConfigsRequest(Message):
    API_KEY = 33
    VERSIONS = (0, 2)
    FLEXIBLE = 2

    resources: list[AlterConfigsResource] = NEW
    validate_only: bool = False

    FIELDS = (
        "resources: []AlterConfigsResource 0+",
        "validate_only: bool 0+",
    )


class AlterConfigsResourceResponse(Struct):
    error_code: int = 0
    error_message: str | None = ""
    resource_type: int = 0
    resource_name: str = ""

    FIELDS = (
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "resource_type: int8 0+",
        "resource_name: string 0+",
    )


class AlterConfigsResponse(Message):
    API_KEY = 33
    VERSIONS = (0, 2)
    FLEXIBLE = 2

    throttle_time_ms: int = 0
    responses: list[AlterConfigsResourceResponse] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "responses: []AlterConfigsResourceResponse 0+",
    )
