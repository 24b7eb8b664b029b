"""AlterUserScramCredentials, API key 51: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class ScramCredentialDeletion(Struct):
    name: str = ""
    mechanism: int = 0

    FIELDS = (
        "name: string 0+",
        "mechanism: int8 0+",
    )


class ScramCredentialUpsertion(Struct):
    name: str = ""
    mechanism: int = 0
    iterations: int = 0
    salt: bytes = b""
    salted_password: bytes = b""

    FIELDS = (
        "name: string 0+",
        "mechanism: int8 0+",
        "iterations: int32 0+",
        "salt: bytes 0+",
        "salted_password: bytes 0+",
    )


class AlterUserScramCredentialsRequest(Message):
    API_KEY = 51
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    deletions: list[ScramCredentialDeletion] = NEW
    upsertions: list[ScramCredentialUpsertion] = NEW

    FIELDS = (
        "deletions: []ScramCredentialDeletion 0+",
        "upsertions: []ScramCredentialUpsertion 0+",
    )


class AlterUserScramCredentialsResult(Struct):
    user: str = ""
    error_code: int = 0
    error_message: str | None = ""

    FIELDS = (
        "user: string 0+",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
    )


class AlterUserScramCredentialsResponse(Message):
    API_KEY = 51
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    throttle_time_ms: int = 0
    results: list[AlterUserScramCredentialsResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "results: []AlterUserScramCredentialsResult 0+",
    )
