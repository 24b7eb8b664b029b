"""Translates the errors of obstore and S3 servers into the port's errors.

obstore has few exception types; most of S3's meaning is in the HTTP status and the error code inside the message.
These are searched for here, on the error path only.
"""

from __future__ import annotations

import re

from tiering.errors import (
    AccessDenied,
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
from tiering.objects.s3.advice import (
    CODE,
    METADATA_SERVICES,
    REDIRECTED,
    STATUS,
    advice,
    certificate_problem,
    is_not_s3,
    is_tls_mismatch,
    shortened,
)
from tiering.objects.s3.config import S3Config

_TIMED_OUT = re.compile(r"kind: Timeout|operation timed out|TimedOut", re.IGNORECASE)

_BY_CODE: dict[str, type[ObjectStoreError]] = {
    "NoSuchBucket": Misconfigured,
    "PermanentRedirect": Misconfigured,
    "AuthorizationHeaderMalformed": Misconfigured,
    "IllegalLocationConstraintException": Misconfigured,
    "InvalidBucketName": Misconfigured,
    "NoSuchKey": NotFound,
    "PreconditionFailed": PreconditionFailed,
    # Two conditional writes collided; this one was not applied and may be tried again.
    "ConditionalRequestConflict": Throttled,
    "OperationAborted": Throttled,
    "SlowDown": Throttled,
    "SlowDownRead": Throttled,
    "SlowDownWrite": Throttled,
    "TooManyRequests": Throttled,
    "RequestLimitExceeded": Throttled,
    "RequestTimeout": Timeout,
    "ExpiredToken": AccessDenied,
    "InvalidToken": AccessDenied,
    "TokenRefreshRequired": AccessDenied,
    "RequestTimeTooSkewed": AccessDenied,
    "NotImplemented": Misconfigured,
    "InvalidAccessKeyId": AccessDenied,
    "QuotaExceeded": StoreFull,
    "XMinioStorageFull": StoreFull,
    "InvalidRange": InvalidRange,
}
_BY_STATUS: dict[int, type[ObjectStoreError]] = {
    301: Misconfigured,
    307: Misconfigured,
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    408: Timeout,
    412: PreconditionFailed,
    416: InvalidRange,
    429: Throttled,
    503: Throttled,
    504: Timeout,
    507: StoreFull,
}
_BY_TYPE: dict[str, type[ObjectStoreError]] = {
    "FileNotFoundError": NotFound,
    "AlreadyExistsError": PreconditionFailed,
    "PreconditionError": PreconditionFailed,
    "PermissionDeniedError": AccessDenied,
    "UnauthenticatedError": AccessDenied,
    "TimeoutError": Timeout,
    "InvalidPathError": Misconfigured,
    "UnknownConfigurationKeyError": Misconfigured,
}


def classified(error: Exception, key: str, config: S3Config) -> ObjectStoreError:
    """The error of this family for an exception of obstore, worded for the operator who configured the store."""
    text = str(error)
    return _kind(error, text, config)(advice(text, config) or shortened(text), key=key)


def _kind(error: Exception, text: str, config: S3Config) -> type[ObjectStoreError]:
    if any(host in text for host in METADATA_SERVICES) or certificate_problem(text) is not None:
        return AccessDenied
    if is_tls_mismatch(text, config):
        return Misconfigured
    code = CODE.search(text)
    if code is not None and code[1] in _BY_CODE:
        return _BY_CODE[code[1]]
    if is_not_s3(text):
        return Misconfigured
    status = STATUS.search(text)
    if status is not None:
        number = int(status[1])
        if number in _BY_STATUS:
            return _BY_STATUS[number]
        if number < 500:
            return ObjectStoreError
    if REDIRECTED in text:
        return Misconfigured
    known = _BY_TYPE.get(type(error).__name__)
    if known is not None:
        return known
    return Timeout if _TIMED_OUT.search(text) else Unavailable
