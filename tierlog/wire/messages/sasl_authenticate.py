"""SaslAuthenticate, API key 36: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import Message


class SaslAuthenticateRequest(Message):
    API_KEY = 36
    VERSIONS = (0, 2)
    FLEXIBLE = 2

    auth_bytes: bytes = b""

    FIELDS = ("auth_bytes: bytes 0+",)


class SaslAuthenticateResponse(Message):
    API_KEY = 36
    VERSIONS = (0, 2)
    FLEXIBLE = 2

    error_code: int = 0
    error_message: str | None = ""
    auth_bytes: bytes = b""
    session_lifetime_ms: int = 0

    FIELDS = (
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "auth_bytes: bytes 0+",
        "session_lifetime_ms: int64 1+ ignorable",
    )
