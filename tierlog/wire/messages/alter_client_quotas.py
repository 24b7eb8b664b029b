"""AlterClientQuotas, API key 49: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class AlterClientQuotasRequestEntityData(Struct):
    entity_type: str = ""
    entity_name: str | None = ""

    FIELDS = (
        "entity_type: string 0+",
        "entity_name: string 0+ nullable=0+",
    )


class OpData(Struct):
    key: str = ""
    value: float = 0.0
    remove: bool = False

    FIELDS = (
        "key: string 0+",
        "value: float64 0+",
        "remove: bool 0+",
    )


class AlterClientQuotasRequestEntryData(Struct):
    entity: list[AlterClientQuotasRequestEntityData] = NEW
    ops: list[OpData] = NEW

    FIELDS = (
        "entity: []AlterClientQuotasRequestEntityData 0+",
        "ops: []OpData 0+",
    )


class AlterClientQuotasRequest(Message):
    API_KEY = 49
    VERSIONS = (0, 1)
    FLEXIBLE = 1

    entries: list[AlterClientQuotasRequestEntryData] = NEW
    validate_only: bool = False

    FIELDS = (
        "entries: []AlterClientQuotasRequestEntryData 0+",
        "validate_only: bool 0+",
    )


class AlterClientQuotasResponseEntityData(Struct):
    entity_type: str = ""
    entity_name: str | None = ""

    FIELDS = (
        "entity_type: string 0+",
        "entity_name: string 0+ nullable=0+",
    )


class AlterClientQuotasResponseEntryData(Struct):
    error_code: int = 0
    error_message: str | None = ""
    entity: list[AlterClientQuotasResponseEntityData] = NEW

    FIELDS = (
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "entity: []AlterClientQuotasResponseEntityData 0+",
    )


class AlterClientQuotasResponse(Message):
    API_KEY = 49
    VERSIONS = (0, 1)
    FLEXIBLE = 1

    throttle_time_ms: int = 0
    entries: list[AlterClientQuotasResponseEntryData] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "entries: []AlterClientQuotasResponseEntryData 0+",
    )
