"""Failures outside this process, as the tier's own family of errors.

::

    TieringError
    ├── ObjectStoreError        the object store; ``retriable`` says whether trying again soon can help
    │   ├── NotFound            no such object (deletes never raise it)
    │   │   └── LostPage        the page that lists the segments of a range is gone or damaged
    │   ├── PreconditionFailed  a conditional write lost: the object exists, or differs from the one read
    │   ├── InvalidRange        the range reaches beyond the object
    │   ├── InvalidKey          the key breaks the rules of ``objects.port.check_key``, or is a folder
    │   ├── ObjectTooLarge      a whole-object read or a conditional write beyond its bound
    │   ├── SizeMismatch        a stream did not hold the bytes that its caller announced
    │   ├── ChecksumMismatch    the bytes of a put are not those that its caller had checksummed        retriable
    │   ├── AccessDenied        credentials or permissions; a person has to act
    │   ├── Misconfigured       no such bucket, wrong region, bad URL or option; a person has to act
    │   ├── StoreFull           no space (ENOSPC, quota)                                          retriable
    │   ├── Throttled           the store asks us to slow down (429, 503)                         retriable
    │   ├── Unavailable         refused, reset, 5xx, truncated body                               retriable
    │   └── Timeout             no answer in time: a write may have happened or may still happen  retriable
    ├── CorruptObject           an object exists, but its bytes fail their checksum or their grammar
    ├── UnsupportedFormat       an object of a ``format_version`` that this release does not know
    └── ForeignBucket           the bucket carries the marker of another cluster

``retriable=False`` only says that trying again soon cannot help: an uploader keeps trying for ever, with its own slow
backoff, since people do repair permissions.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class Advice(NamedTuple):
    """A mistake that a person has to mend, and how. ``about``: what it is a mistake of, in one word."""

    about: str
    mistake: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.mistake}; {self.remedy}"


class TieringError(Exception):
    """Root of the family."""


class ObjectStoreError(TieringError):
    """One request to the object store failed. ``key`` names the object, or is empty. ``advice``: where the cause is known to
    be a mistake of a setting."""

    retriable: ClassVar[bool] = False

    def __init__(self, message: str | Advice, *, key: str = "") -> None:
        super().__init__(f"{message} [{key}]" if key else str(message))
        self.key = key
        self.advice = message if isinstance(message, Advice) else None


class NotFound(ObjectStoreError):
    """There is no object under this key."""


class LostPage(NotFound):
    """The page that lists the object cannot be read; the object itself may still be in the bucket."""


class PreconditionFailed(ObjectStoreError):
    """``if_absent`` met an object, or ``put_if_match`` met another version or none at all."""


class InvalidRange(ObjectStoreError):
    """The asked range is not wholly inside the object."""


class InvalidKey(ObjectStoreError):
    """The key breaks the rules that every backend shares."""


class ObjectTooLarge(ObjectStoreError):
    """The object is larger than what may be handled in one piece."""


class SizeMismatch(ObjectStoreError):
    """The stream ended early or went on beyond the announced size; nothing became visible."""


class ChecksumMismatch(ObjectStoreError):
    """The bytes of a put do not have the checksum that its caller announced; nothing became visible."""

    retriable = True


class AccessDenied(ObjectStoreError):
    """401 or 403, or the file system's EACCES, EPERM and EROFS."""


class Misconfigured(ObjectStoreError):
    """The address, bucket, region or an option is wrong."""


class StoreFull(ObjectStoreError):
    """No space left. Worth retrying: the tier itself frees space."""

    retriable = True


class Throttled(ObjectStoreError):
    """429, 503 SlowDown and their like."""

    retriable = True


class Unavailable(ObjectStoreError):
    """The store did not serve the request (it was not applied), or the connection broke."""

    retriable = True


class Timeout(ObjectStoreError):
    """No answer in time. The outcome of a write is unknown."""

    retriable = True


class CorruptObject(TieringError):
    """Bytes that fail their checksum or that no version of the format allows."""


class UnsupportedFormat(TieringError):
    """A ``format_version`` from the future: refused with one line, never guessed at."""


class ForeignBucket(TieringError):
    """Another cluster owns this bucket and prefix."""
