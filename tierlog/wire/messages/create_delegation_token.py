"""CreateDelegationToken, API key 38: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class CreatableRenewers(Struct):
    principal_type: str = ""
    principal_name: str = ""

    FIELDS = (
        "principal_type: string 0+",
        "principal_name: string 0+",
    )


class CreateDelegationTokenRequest(Message):
    API_KEY = 38
    VERSIONS = (1, 3)
    FLEXIBLE = 2

    owner_principal_type: str | None = ""
    owner_principal_name: str | None = ""
    renewers: list[CreatableRenewers] = NEW
    max_lifetime_ms: int = 0

    FIELDS = (
        "owner_principal_type: string 3+ nullable=3+",
        "owner_principal_name: string 3+ nullable=3+",
        "renewers: []CreatableRenewers 0+",
        "max_lifetime_ms: int64 0+",
    )


class CreateDelegationTokenResponse(Message):
    API_KEY = 38
    VERSIONS = (1, 3)
    FLEXIBLE = 2

    error_code: int = 0
    principal_type: str = ""
    principal_name: str = ""
    token_requester_principal_type: str = ""
    token_requester_principal_name: str = ""
    issue_timestamp_ms: int = 0
    expiry_timestamp_ms: int = 0
    max_timestamp_ms: int = 0
    token_id: str = ""
    hmac: bytes = b""
    throttle_time_ms: int = 0

    FIELDS = (
        "error_code: int16 0+",
        "principal_type: string 0+",
        "principal_name: string 0+",
        "token_requester_principal_type: string 3+",
        "token_requester_principal_name: string 3+",
        "issue_timestamp_ms: int64 0+",
        "expiry_timestamp_ms: int64 0+",
        "max_timestamp_ms: int64 0+",
        "token_id: string 0+",
        "hmac: bytes 0+",
        "throttle_time_ms: int32 0+",
    )
