"""The base of all wrappers: every verb goes through ``_parts``, where a wrapper adds its behaviour once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar, get_args

from tiering.errors import ObjectStoreError
from tiering.objects.classes import StorageClass
from tiering.objects.port import (
    LIST_LIMIT_MAX,
    PLAIN,
    WHOLE_BYTES_MAX,
    Buffer,
    Content,
    ObjectInfo,
    ObjectStore,
    PutOptions,
    UploadInfo,
)

R = TypeVar("R")
Verb: TypeAlias = Literal[
    "put",
    "put_if_match",
    "copy",
    "get",
    "get_range",
    "head",
    "list",
    "delete",
    "list_uploads",
    "abort_upload",
    "keeps_old_versions",
]
VERBS: tuple[Verb, ...] = get_args(Verb)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the port. ``sent_bytes``: bytes that go to the store with it; ``keys``: the keys of a delete."""

    verb: Verb
    key: str
    sent_bytes: int = 0
    keys: tuple[str, ...] = ()


class WrappedStore:
    """An ``ObjectStore`` that passes everything on to another one."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner

    async def _parts(self, call: Call, work: Callable[[], Awaitable[R]]) -> R:
        """Do ``work``, which is one call of the inner store. A wrapper may do it several times, unless it holds a
        stream."""
        return await work()

    async def put(
        self,
        key: str,
        content: Content,
        *,
        size_bytes: int,
        if_absent: bool = False,
        options: PutOptions = PLAIN,
    ) -> ObjectInfo:
        return await self._parts(
            Call("put", key, size_bytes),
            lambda: self.inner.put(key, content, size_bytes=size_bytes, if_absent=if_absent, options=options),
        )

    async def put_if_match(self, key: str, data: Buffer, version: str) -> ObjectInfo:
        return await self._parts(
            Call("put_if_match", key, len(data)), lambda: self.inner.put_if_match(key, data, version)
        )

    async def copy(
        self, source: str, target: str, *, version: str, storage_class: StorageClass
    ) -> ObjectInfo:
        return await self._parts(
            Call("copy", target),
            lambda: self.inner.copy(source, target, version=version, storage_class=storage_class),
        )

    async def get(self, key: str, *, bytes_max: int = WHOLE_BYTES_MAX) -> tuple[ObjectInfo, Buffer]:
        return await self._parts(Call("get", key), lambda: self.inner.get(key, bytes_max=bytes_max))

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        return await self._parts(Call("get_range", key), lambda: self.inner.get_range(key, start, end))

    async def head(self, key: str, *, complete: bool = False) -> ObjectInfo:
        return await self._parts(Call("head", key), lambda: self.inner.head(key, complete=complete))

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = LIST_LIMIT_MAX
    ) -> Sequence[ObjectInfo]:
        return await self._parts(
            Call("list", prefix), lambda: self.inner.list(prefix, start_after=start_after, limit=limit)
        )

    async def delete(self, keys: Iterable[str]) -> dict[str, ObjectStoreError]:
        named = tuple(keys)
        if not named:
            return {}
        return await self._parts(Call("delete", named[0], keys=named), lambda: self.inner.delete(named))

    async def list_uploads(self, prefix: str) -> Sequence[UploadInfo]:
        return await self._parts(Call("list_uploads", prefix), lambda: self.inner.list_uploads(prefix))

    async def abort_upload(self, upload: UploadInfo) -> None:
        await self._parts(Call("abort_upload", upload.key), lambda: self.inner.abort_upload(upload))

    async def keeps_old_versions(self) -> str | None:
        return await self._parts(Call("keeps_old_versions", ""), self.inner.keeps_old_versions)

    async def close(self) -> None:
        await self.inner.close()
