"""RenewDelegationToken, API key 39: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import Message


class RenewDelegationTokenRequest(Message):
    API_KEY = 39
    VERSIONS = (1, 2)
    FLEXIBLE = 2

    hmac: bytes = b""
    renew_period_ms: int = 0

    FIELDS = (
        "hmac: bytes 0+",
        "renew_period_ms: int64 0+",
    )


class RenewDelegationTokenResponse(Message):
    API_KEY = 39
    VERSIONS = (1, 2)
    FLEXIBLE = 2

    error_code: int = 0
    expiry_timestamp_ms: int = 0
    throttle_time_ms: int = 0

    FIELDS = (
        "error_code: int16 0+",
        "expiry_timestamp_ms: int64 0+",
        "throttle_time_ms: int32 0+",
    )
