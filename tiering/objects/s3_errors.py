"""What obstore and S3 servers say, in the port's words.

obstore has few exception types; most of S3's meaning is in the HTTP status and the error code inside the
message, so these are looked for there, on the error path only.
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

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_REDIRECTED = "redirect without LOCATION"  # obstore hides the 301 of a wrong region behind these words.
_TIMED_OUT = re.compile(r"kind: Timeout|operation timed out|TimedOut", re.IGNORECASE)

_BY_CODE: dict[str, type[ObjectStoreError]] = {
    "NoSuchBucket": Misconfigured,
    "PermanentRedirect": Misconfigured,
    "AuthorizationHeaderMalformed": Misconfigured,
    "IllegalLocationConstraintException": Misconfigured,
    "InvalidBucketName": Misconfigured,
    "NoSuchKey": NotFound,
    "PreconditionFailed": PreconditionFailed,
    # Two conditional writes met; ours was not applied and may be tried again.
    "ConditionalRequestConflict": Throttled,
    "OperationAborted": Throttled,
    "SlowDown": Throttled,
    "SlowDownRead": Throttled,
    "SlowDownWrite": Throttled,
    "TooManyRequests": Throttled,
    "RequestLimitExceeded": Throttled,
    "RequestTimeout": Timeout,
    "ExpiredToken": AccessDenied,
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


def classified(error: Exception, key: str) -> ObjectStoreError:
    """The member of our family that an exception of obstore stands for."""
    text = str(error)
    lines = text.split("\n", 1)
    return _kind(error, text)(lines[0][:400], key=key)


def _kind(error: Exception, text: str) -> type[ObjectStoreError]:
    code = _CODE.search(text)
    if code is not None and code[1] in _BY_CODE:
        return _BY_CODE[code[1]]
    status = _STATUS.search(text)
    if status is not None:
        number = int(status[1])
        if number in _BY_STATUS:
            return _BY_STATUS[number]
        if number < 500:
            return ObjectStoreError
    if _REDIRECTED in text:
        return Misconfigured
    known = _BY_TYPE.get(type(error).__name__)
    if known is not None:
        return known
    return Timeout if _TIMED_OUT.search(text) else Unavailable
