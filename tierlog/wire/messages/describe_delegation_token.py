"""DescribeDelegationToken, API key 41: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class DescribeDelegationTokenOwner(Struct):
    principal_type: str = ""
    principal_name: str = ""

    FIELDS = (
        "principal_type: string 0+",
        "principal_name: string 0+",
    )


class DescribeDelegationTokenRequest(Message):
    API_KEY = 41
    VERSIONS = (1, 3)
    FLEXIBLE = 2

    owners: list[DescribeDelegationTokenOwner] | None = NEW

    FIELDS = ("owners: []DescribeDelegationTokenOwner 0+ nullable=0+",)


class DescribedDelegationTokenRenewer(Struct):
    principal_type: str = ""
    principal_name: str = ""

    FIELDS = (
        "principal_type: string 0+",
        "principal_name: string 0+",
    )


class DescribedDelegationToken(Struct):
    principal_type: str = ""
    principal_name: str = ""
    token_requester_principal_type: str = ""
    token_requester_principal_name: str = ""
    issue_timestamp: int = 0
    expiry_timestamp: int = 0
    max_timestamp: int = 0
    token_id: str = ""
    hmac: bytes = b""
    renewers: list[DescribedDelegationTokenRenewer] = NEW

    FIELDS = (
        "principal_type: string 0+",
        "principal_name: string 0+",
        "token_requester_principal_type: string 3+",
        "token_requester_principal_name: string 3+",
        "issue_timestamp: int64 0+",
        "expiry_timestamp: int64 0+",
        "max_timestamp: int64 0+",
        "token_id: string 0+",
        "hmac: bytes 0+",
        "renewers: []DescribedDelegationTokenRenewer 0+",
    )


class DescribeDelegationTokenResponse(Message):
    API_KEY = 41
    VERSIONS = (1, 3)
    FLEXIBLE = 2

    error_code: int = 0
    tokens: list[DescribedDelegationToken] = NEW
    throttle_time_ms: int = 0

    FIELDS = (
        "error_code: int16 0+",
        "tokens: []DescribedDelegationToken 0+",
        "throttle_time_ms: int32 0+",
    )
