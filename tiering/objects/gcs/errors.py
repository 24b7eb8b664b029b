"""Translates the failures of both clients into the port's errors. Pure."""

from __future__ import annotations

from tiering.errors import (
    AccessDenied,
    ChecksumMismatch,
    InvalidRange,
    Misconfigured,
    NotFound,
    ObjectStoreError,
    PreconditionFailed,
    StoreFull,
    Throttled,
    Timeout,
    Unavailable,
)
from tiering.objects.gcs.advice import advice, is_bad_certificate, is_late, is_no_bucket, is_tls_mismatch
from tiering.objects.gcs.answers import Answer
from tiering.objects.gcs.config import GcsConfig

_BY_STATUS: dict[int, type[ObjectStoreError]] = {
    304: PreconditionFailed,
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    405: Misconfigured,
    408: Timeout,
    410: Unavailable,  # An upload session that Google has forgotten: a new one may do.
    412: PreconditionFailed,
    416: InvalidRange,
    429: Throttled,
    499: Unavailable,
    501: Misconfigured,
    503: Throttled,
    504: Timeout,
    507: StoreFull,
}
_BY_REASON: dict[str, type[ObjectStoreError]] = {
    "DefaultCredentialsError": AccessDenied,
    "InvalidOperation": AccessDenied,
    "RefreshError": AccessDenied,
    "TransportError": Unavailable,
    "rateLimitExceeded": Throttled,
    "userRateLimitExceeded": Throttled,
    "quotaExceeded": StoreFull,
}


def classified(answer: Answer, key: str, config: GcsConfig) -> ObjectStoreError:
    """The error of this family, worded for the operator who configured the store."""
    return kind_of(answer, config)(advice(answer, config) or _shortened(answer), key=key)


def kind_of(answer: Answer, config: GcsConfig) -> type[ObjectStoreError]:
    if is_no_bucket(answer) or is_tls_mismatch(answer, config):
        return Misconfigured
    if is_bad_certificate(answer):
        return AccessDenied
    if answer.reason in _BY_REASON:
        return _BY_REASON[answer.reason]
    if not answer.is_google and (answer.status is None or answer.status < 500):
        return Misconfigured
    if answer.status is None:
        return Timeout if is_late(answer) else Unavailable
    if answer.status == 400:
        return _of_bad_request(answer)
    known = _BY_STATUS.get(answer.status)
    if known is not None:
        return known
    return ObjectStoreError if answer.status < 500 else Unavailable


def _of_bad_request(answer: Answer) -> type[ObjectStoreError]:
    words = answer.words.lower()
    if "doesn't match calculated" in words:
        return ChecksumMismatch
    wrong = ("storage class", "bucket name", "project", "requester pays", "uniform bucket-level access")
    return Misconfigured if any(word in words for word in wrong) else ObjectStoreError


def _shortened(answer: Answer) -> str:
    if answer.status is None:
        return answer.words
    reason = f" {answer.reason}" if answer.reason else ""
    return f"HTTP {answer.status}{reason}: {answer.words}"
