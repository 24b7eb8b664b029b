"""DescribeConfigs, API key 32: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class DescribeConfigsResource(Struct):
    resource_type: int = 0
    resource_name: str = ""
    configuration_keys: list[str] | None = NEW

    FIELDS = (
        "resource_type: int8 0+",
        "resource_name: string 0+",
        "configuration_keys: []string 0+ nullable=0+",
    )


class DescribeConfigsRequest(Message):
    API_KEY = 32
    VERSIONS = (1, 4)
    FLEXIBLE = 4

    resources: list[DescribeConfigsResource] = NEW
    include_synonyms: bool = False
    include_documentation: bool = False

    FIELDS = (
        "resources: []DescribeConfigsResource 0+",
        "include_synonyms: bool 1+",
        "include_documentation: bool 3+",
    )


class DescribeConfigsSynonym(Struct):
    name: str = ""
    value: str | None = ""
    source: int = 0

    FIELDS = (
        "name: string 1+",
        "value: string 1+ nullable=0+",
        "source: int8 1+",
    )


class DescribeConfigsResourceResult(Struct):
    name: str = ""
    value: str | None = ""
    read_only: bool = False
    config_source: int = -1
    is_sensitive: bool = False
    synonyms: list[DescribeConfigsSynonym] = NEW
    config_type: int = 0
    documentation: str | None = ""

    FIELDS = (
        "name: string 0+",
        "value: string 0+ nullable=0+",
        "read_only: bool 0+",
        "config_source: int8 1+ ignorable",
        "is_sensitive: bool 0+",
        "synonyms: []DescribeConfigsSynonym 1+ ignorable",
        "config_type: int8 3+ ignorable",
        "documentation: string 3+ nullable=0+ ignorable",
    )


class DescribeConfigsResult(Struct):
    error_code: int = 0
    error_message: str | None = ""
    resource_type: int = 0
    resource_name: str = ""
    configs: list[DescribeConfigsResourceResult] = NEW

    FIELDS = (
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "resource_type: int8 0+",
        "resource_name: string 0+",
        "configs: []DescribeConfigsResourceResult 0+",
    )


class DescribeConfigsResponse(Message):
    API_KEY = 32
    VERSIONS = (1, 4)
    FLEXIBLE = 4

    throttle_time_ms: int = 0
    results: list[DescribeConfigsResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "results: []DescribeConfigsResult 0+",
    )
