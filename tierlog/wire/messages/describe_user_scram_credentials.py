"""DescribeUserScramCredentials, API key 50: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class UserName(Struct):
    name: str = ""

    FIELDS = ("name: string 0+",)


class DescribeUserScramCredentialsRequest(Message):
    API_KEY = 50
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    users: list[UserName] | None = NEW

    FIELDS = ("users: []UserName 0+ nullable=0+",)


class CredentialInfo(Struct):
    mechanism: int = 0
    iterations: int = 0

    FIELDS = (
        "mechanism: int8 0+",
        "iterations: int32 0+",
    )


class DescribeUserScramCredentialsResult(Struct):
    user: str = ""
    error_code: int = 0
    error_message: str | None = ""
    credential_infos: list[CredentialInfo] = NEW

    FIELDS = (
        "user: string 0+",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "credential_infos: []CredentialInfo 0+",
    )


class DescribeUserScramCredentialsResponse(Message):
    API_KEY = 50
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    throttle_time_ms: int = 0
    error_code: int = 0
    error_message: str | None = ""
    results: list[DescribeUserScramCredentialsResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "results: []DescribeUserScramCredentialsResult 0+",
    )
