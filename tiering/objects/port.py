"""The object store port: the verbs that every backend and every wrapper speaks.

Rules that all implementations share (tests/contract/objects holds them to it):

* An object becomes visible whole or not at all. A put that fails or is cancelled leaves nothing visible, unless its
  last byte had already been handed over: then the whole object may still appear (as it may after ``Timeout``).
* A put is durable when it returns, and every later get, head and list sees it (all backends are strongly
  consistent).
* Ranges are half-open and exact: ``get_range`` returns ``end - start`` bytes or raises.
* A version is an opaque token: equal tokens of a key mean equal bytes. It changes with the bytes (S3's etag is made of
  them), and may change without (GCS counts generations): compare tokens, never parse one.
* Deletes are idempotent and answer per key; an absent key is no error there, and ``NotFound`` everywhere else.
* Keys obey ``check_key``; prefixes are empty or end in ``/``. No key is a folder of another one (``a`` and
  ``a/b`` cannot both exist: a file system cannot hold them, nor can every S3 server).
* A buffer that was returned is the caller's and never changes. A buffer passed in, or yielded by a stream,
  must not change until the put is over.
* Errors are those of ``tiering.errors`` and nothing else, except that an exception of the stream itself comes
  out as it is; cancellation works at every await.

A stream handed to ``put`` that can be iterated more than once (an ``AsyncIterable`` whose ``__aiter__`` starts
anew) can be retried by ``retrying``; a one-shot ``AsyncIterator`` cannot.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from tiering.errors import InvalidKey, ObjectStoreError, ObjectTooLarge
from tiering.objects.classes import StorageClass

Buffer: TypeAlias = bytes | bytearray | memoryview
Content: TypeAlias = Buffer | AsyncIterable[Buffer]

KEY_BYTES_MAX = 900  # S3 allows 1,024; the rest is for the prefix of the store.
KEY_SEGMENT_BYTES_MAX = 240  # File systems allow 255; the rest is for temporary suffixes.
LIST_LIMIT_MAX = 1_000  # S3's page.
WHOLE_BYTES_MAX = 64 * 1024 * 1024  # ``get`` and conditional writes handle objects in one piece.

_SEGMENT = r"[A-Za-z0-9_=+@,~-][A-Za-z0-9._=+@,~-]*"
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """A store's description of an object.

    ``version`` is the token that conditions compare. ``modified_ms`` is by the store's clock (0 where the store did not
    tell it, as after a put): good for ages, never for order. ``storage_class`` and ``crc32c`` (of all bytes) are None
    where the store did not tell them; ``head(complete=True)`` asks for the class.
    """

    key: str
    size_bytes: int
    version: str
    modified_ms: int = 0
    storage_class: StorageClass | None = None
    crc32c: int | None = None


@dataclass(frozen=True, slots=True)
class PutOptions:
    """``crc32c`` is that of the whole content: other bytes are refused with ``ChecksumMismatch``, by the store itself where
    it can; a stream that can be read in parts (``streams.Ranged``) checks its own. ``part_bytes`` is the part size of a
    multipart upload; 0 leaves it to the backend. ``parts_at_once``: how many may be sent at once, where the backend can
    and has the memory."""

    storage_class: StorageClass = StorageClass.STANDARD
    crc32c: int | None = None
    part_bytes: int = 0
    parts_at_once: int = 1


PLAIN = PutOptions()


class UploadInfo(NamedTuple):
    """An upload that was begun and neither completed nor aborted: invisible, but paid for. ``key`` is empty where the store
    does not know it yet."""

    key: str
    upload_id: str
    begun_ms: int


class ObjectStore(Protocol):
    """A flat map from keys to immutable byte strings, with atomic replacement."""

    async def put(
        self,
        key: str,
        content: Content,
        *,
        size_bytes: int,
        if_absent: bool = False,
        options: PutOptions = PLAIN,
    ) -> ObjectInfo:
        """Write an object of exactly ``size_bytes``, from one buffer or a stream of buffers of any sizes.

        A stream is pulled as it is sent: at most two parts are in memory (parts are the backend's, 8 MiB by
        default), multipart underneath where the backend wants it; of one that can be read in parts
        (``streams.Ranged``) two of its pieces for each request. With ``if_absent`` the object must not
        exist yet: ``PreconditionFailed``, with one winner among any number of racing writers; such objects
        are limited to ``WHOLE_BYTES_MAX``. Raises ``SizeMismatch`` if the stream holds another number of
        bytes, ``Misconfigured`` for a class that the store does not have.
        """
        ...

    async def put_if_match(self, key: str, data: Buffer, version: str) -> ObjectInfo:
        """Replace the object only if it has this version; else ``PreconditionFailed`` (also when absent)."""
        ...

    async def copy(
        self, source: str, target: str, *, version: str, storage_class: StorageClass
    ) -> ObjectInfo:
        """Copy an object within the store, in the given class; no byte comes here. ``target`` may be ``source``: the class
        changes in place, for a reader without a gap. ``PreconditionFailed`` unless the source has this version,
        ``NotFound`` if it is absent."""
        ...

    async def get(self, key: str, *, bytes_max: int = WHOLE_BYTES_MAX) -> tuple[ObjectInfo, Buffer]:
        """A small object whole, with the version of these bytes; ``ObjectTooLarge`` beyond ``bytes_max``."""
        ...

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        """Exactly the bytes [start, end), ``0 <= start < end``; ``InvalidRange`` if the object is shorter."""
        ...

    async def head(self, key: str, *, complete: bool = False) -> ObjectInfo:
        """Size and version; ``NotFound`` if absent. ``complete``: the class too, also where that takes a slower way."""
        ...

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = LIST_LIMIT_MAX
    ) -> Sequence[ObjectInfo]:
        """One page: keys below ``prefix`` and greater than ``start_after``, in byte order of the full key.

        Fewer than ``limit`` (<= ``LIST_LIMIT_MAX``) entries mean that there are no more; ``list_all`` walks
        pages. Some S3 servers compare segment by segment: the same order, unless a folder's name begins a
        sibling's name that goes on with one of ``+ , - .``; keys that are listed avoid that.
        """
        ...

    async def delete(self, keys: Iterable[str]) -> dict[str, ObjectStoreError]:
        """Remove any number of objects; absent ones are fine. Returns the keys that the store refuses to remove, each with
        the error (a legal hold, no permission); all others are gone. Raises only an error of the request as a whole; then
        some may be gone: repeat it."""
        ...

    async def list_uploads(self, prefix: str) -> Sequence[UploadInfo]:
        """Unfinished uploads below a prefix, of whoever began them, at most ``LIST_LIMIT_MAX``: abort some and ask again for
        more. Uploads without a key are below the empty prefix."""
        ...

    async def abort_upload(self, upload: UploadInfo) -> None:
        """Forget an unfinished upload and free its bytes. No error if it is over."""
        ...

    async def keeps_old_versions(self) -> str | None:
        """Why what is overwritten or deleted stays in the store and is billed (versioning, object lock); None if it goes."""
        ...

    async def close(self) -> None:
        """Release threads, files and connections. Wrappers close what they wrap."""
        ...


def check_key(key: str) -> str:
    """The key itself, or ``InvalidKey``.

    ASCII letters, digits and ``. _ = + @ , ~ -`` in segments parted by ``/``; no empty segment and none that
    starts with a dot: so no traversal, and room for a store's own files.
    """
    if len(key) > KEY_BYTES_MAX or _KEY.fullmatch(key) is None:
        raise InvalidKey("not a valid object key", key=key[:KEY_BYTES_MAX])
    if len(key) > KEY_SEGMENT_BYTES_MAX and max(map(len, key.split("/"))) > KEY_SEGMENT_BYTES_MAX:
        raise InvalidKey(f"a key segment is longer than {KEY_SEGMENT_BYTES_MAX} bytes", key=key)
    return key


def check_prefix(prefix: str) -> str:
    """The prefix itself, or ``InvalidKey``: empty, or a valid key and a final ``/``."""
    if prefix:
        if not prefix.endswith("/"):
            raise InvalidKey("a prefix must end in '/'", key=prefix)
        check_key(prefix[:-1])
    return prefix


def check_whole(key: str, size_bytes: int, bytes_max: int = WHOLE_BYTES_MAX) -> None:
    """Raises ``ObjectTooLarge`` if the object may not be handled in one piece."""
    if size_bytes > bytes_max:
        raise ObjectTooLarge(f"{size_bytes} bytes, of which {bytes_max} are allowed in one piece", key=key)


async def list_all(store: ObjectStore, prefix: str) -> AsyncIterator[ObjectInfo]:
    """All objects below a prefix, page by page, in key order."""
    start_after = ""
    while True:
        page = await store.list(prefix, start_after=start_after)
        for info in page:
            yield info
        if len(page) < LIST_LIMIT_MAX:
            return
        start_after = page[-1].key
