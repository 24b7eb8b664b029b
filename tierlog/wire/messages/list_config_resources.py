"""ListConfigResources, API key 74: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class ListConfigResourcesRequest(Message):
    API_KEY = 74
    VERSIONS = (0, 1)
    FLEXIBLE = 0

    resource_types: list[int] = NEW

    FIELDS = ("resource_types: []int8 1+",)


class ConfigResource(Struct):
    resource_name: str = ""
    resource_type: int = 16

    FIELDS = (
        "resource_name: string 0+",
        "resource_type: int8 1+ ignorable",
    )


class ListConfigResourcesResponse(Message):
    API_KEY = 74
    VERSIONS = (0, 1)
    FLEXIBLE = 0

    throttle_time_ms: int = 0
    error_code: int = 0
    config_resources: list[ConfigResource] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "error_code: int16 0+",
        "config_resources: []ConfigResource 0+",
    )
