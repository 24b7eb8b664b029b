"""DescribeClientQuotas, API key 48: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class ComponentData(Struct):
    entity_type: str = ""
    match_type: int = 0
    match: str | None = ""

    FIELDS = (
        "entity_type: string 0+",
        "match_type: int8 0+",
        "match: string 0+ nullable=0+",
    )


class DescribeClientQuotasRequest(Message):
    API_KEY = 48
    VERSIONS = (0, 1)
    FLEXIBLE = 1

    components: list[ComponentData] = NEW
    strict: bool = False

    FIELDS = (
        "components: []ComponentData 0+",
        "strict: bool 0+",
    )


class EntityData(Struct):
    entity_type: str = ""
    entity_name: str | None = ""

    FIELDS = (
        "entity_type: string 0+",
        "entity_name: string 0+ nullable=0+",
    )


class ValueData(Struct):
    key: str = ""
    value: float = 0.0

    FIELDS = (
        "key: string 0+",
        "value: float64 0+",
    )


class EntryData(Struct):
    entity: list[EntityData] = NEW
    values: list[ValueData] = NEW

    FIELDS = (
        "entity: []EntityData 0+",
        "values: []ValueData 0+",
    )


class DescribeClientQuotasResponse(Message):
    API_KEY = 48
    VERSIONS = (0, 1)
    FLEXIBLE = 1

    throttle_time_ms: int = 0
    error_code: int = 0
    error_message: str | None = ""
    entries: list[EntryData] | None = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "entries: []EntryData 0+ nullable=0+",
    )
