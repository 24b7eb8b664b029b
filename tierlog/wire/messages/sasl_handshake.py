"""SaslHandshake, API key 17: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message


class SaslHandshakeRequest(Message):
    API_KEY = 17
    VERSIONS = (0, 1)

    mechanism: str = ""

    FIELDS = ("mechanism: string 0+",)


class SaslHandshakeResponse(Message):
    API_KEY = 17
    VERSIONS = (0, 1)

    error_code: int = 0
    mechanisms: list[str] = NEW

    FIELDS = (
        "error_code: int16 0+",
        "mechanisms: []string 0+",
    )
