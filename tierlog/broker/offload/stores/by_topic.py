"""One store made of several: each topic's objects lie in a store of its own choice.

A key names its topic, so that nobody who reads, writes or deletes can go to the wrong bucket. What is of no topic (the
marker, listings of more than one topic) goes to the first store; whoever wants that of another one asks it directly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

from tiering.errors import ObjectStoreError
from tiering.keys import topic_of
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

Pick: TypeAlias = Callable[[bytes], Awaitable[ObjectStore]]
"""Topic id → the topic's store. Raises ``TieringError`` if it cannot be used."""


class StoreByTopic:
    """An ``ObjectStore``. The others that ``pick`` returns are closed by whoever opened them."""

    def __init__(self, first: ObjectStore, pick: Pick) -> None:
        self._first = first
        self._pick = pick

    async def put(
        self,
        key: str,
        content: Content,
        *,
        size_bytes: int,
        if_absent: bool = False,
        options: PutOptions = PLAIN,
    ) -> ObjectInfo:
        store = await self._of(key)
        return await store.put(key, content, size_bytes=size_bytes, if_absent=if_absent, options=options)

    async def put_if_match(self, key: str, data: Buffer, version: str) -> ObjectInfo:
        return await (await self._of(key)).put_if_match(key, data, version)

    async def copy(
        self, source: str, target: str, *, version: str, storage_class: StorageClass
    ) -> ObjectInfo:
        assert topic_of(source) == topic_of(target), "objects are copied within their topic"
        store = await self._of(source)
        return await store.copy(source, target, version=version, storage_class=storage_class)

    async def get(self, key: str, *, bytes_max: int = WHOLE_BYTES_MAX) -> tuple[ObjectInfo, Buffer]:
        return await (await self._of(key)).get(key, bytes_max=bytes_max)

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        return await (await self._of(key)).get_range(key, start, end)

    async def head(self, key: str, *, complete: bool = False) -> ObjectInfo:
        return await (await self._of(key)).head(key, complete=complete)

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = LIST_LIMIT_MAX
    ) -> Sequence[ObjectInfo]:
        return await (await self._of(prefix)).list(prefix, start_after=start_after, limit=limit)

    async def delete(self, keys: Iterable[str]) -> dict[str, ObjectStoreError]:
        by_topic: dict[bytes | None, list[str]] = defaultdict(list)
        for key in keys:
            by_topic[topic_of(key)].append(key)
        refused: dict[str, ObjectStoreError] = {}
        for named in by_topic.values():
            refused |= await (await self._of(named[0])).delete(named)
        return refused

    async def list_uploads(self, prefix: str) -> Sequence[UploadInfo]:
        return await (await self._of(prefix)).list_uploads(prefix)

    async def abort_upload(self, upload: UploadInfo) -> None:
        await (await self._of(upload.key)).abort_upload(upload)

    async def keeps_old_versions(self) -> str | None:
        return await self._first.keeps_old_versions()

    async def close(self) -> None:
        await self._first.close()

    async def _of(self, key: str) -> ObjectStore:
        topic_id = topic_of(key)
        return self._first if topic_id is None else await self._pick(topic_id)
