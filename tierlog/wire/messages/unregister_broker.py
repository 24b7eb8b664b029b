"""UnregisterBroker, API key 64: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import Message


class UnregisterBrokerRequest(Message):
    API_KEY = 64
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    broker_id: int = 0

    FIELDS = ("broker_id: int32 0+",)


class UnregisterBrokerResponse(Message):
    API_KEY = 64
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    throttle_time_ms: int = 0
    error_code: int = 0
    error_message: str | None = ""

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
    )
