"""Objects in a dict: for tests and simulation, held to the same contract as the real stores.

No threads, no clock, no randomness; the only awaits are one checkpoint per verb and the pulls of a stream.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence

from crc32c import crc32c

from tiering.errors import (
    AccessDenied,
    InvalidKey,
    InvalidRange,
    NotFound,
    ObjectStoreError,
    PreconditionFailed,
)
from tiering.objects.classes import StorageClass
from tiering.objects.port import (
    LIST_LIMIT_MAX,
    PLAIN,
    WHOLE_BYTES_MAX,
    Buffer,
    Content,
    ObjectInfo,
    PutOptions,
    UploadInfo,
    check_key,
    check_prefix,
    check_whole,
)
from tiering.objects.streams import whole


class MemoryStore:
    """``ObjectStore`` in this process. Unbounded: the caller's data is all it holds."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[ObjectInfo, bytes]] = {}
        self._sorted_keys: list[str] = []
        self._write_count = 0
        self.held: set[str] = set()
        """Keys of objects that cannot be deleted, as if under a legal hold."""
        self.old_versions: str | None = None
        """What ``keeps_old_versions`` answers; tests may set it."""
        self.uploads: list[UploadInfo] = []
        """Unfinished uploads. A put here leaves none; tests may add some."""

    async def put(
        self,
        key: str,
        content: Content,
        *,
        size_bytes: int,
        if_absent: bool = False,
        options: PutOptions = PLAIN,
    ) -> ObjectInfo:
        check_key(key)
        if if_absent:
            check_whole(key, size_bytes)
        data = bytes(await whole(key, content, size_bytes, options.crc32c))
        await asyncio.sleep(0)
        if if_absent and key in self._objects:
            raise PreconditionFailed("the object exists", key=key)
        return self._store(key, data, options.storage_class)

    async def put_if_match(self, key: str, data: Buffer, version: str) -> ObjectInfo:
        check_key(key)
        check_whole(key, len(data))
        await asyncio.sleep(0)
        if key not in self._objects or self._objects[key][0].version != version:
            raise PreconditionFailed("the object is gone or has another version", key=key)
        return self._store(key, bytes(data), StorageClass.STANDARD)

    async def copy(
        self, source: str, target: str, *, version: str, storage_class: StorageClass
    ) -> ObjectInfo:
        check_key(target)
        info, data = await self._find(source)
        if info.version != version:
            raise PreconditionFailed("the object has another version", key=source)
        return self._store(target, data, storage_class)

    def _store(self, key: str, data: bytes, storage_class: StorageClass) -> ObjectInfo:
        self._check_folders(key)
        self._write_count += 1
        info = ObjectInfo(
            key, len(data), f"{self._write_count:x}", storage_class=storage_class, crc32c=crc32c(data)
        )
        if key not in self._objects:
            insort(self._sorted_keys, key)
        self._objects[key] = (info, data)
        return info

    def _check_folders(self, key: str) -> None:
        """What a file system refuses, this store refuses too."""
        below = bisect_right(self._sorted_keys, key + "/")
        if below < len(self._sorted_keys) and self._sorted_keys[below].startswith(key + "/"):
            raise InvalidKey("the key is a folder of other keys", key=key)
        cut = key.find("/")
        while cut >= 0:
            if key[:cut] in self._objects:
                raise InvalidKey("another key is a folder of this one", key=key)
            cut = key.find("/", cut + 1)

    async def _find(self, key: str) -> tuple[ObjectInfo, bytes]:
        check_key(key)
        await asyncio.sleep(0)
        if key not in self._objects:
            raise NotFound("no such object", key=key)
        return self._objects[key]

    async def get(self, key: str, *, bytes_max: int = WHOLE_BYTES_MAX) -> tuple[ObjectInfo, Buffer]:
        info, data = await self._find(key)
        check_whole(key, info.size_bytes, bytes_max)
        return info, data

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        assert 0 <= start < end, "a range holds at least one byte"
        info, data = await self._find(key)
        if end > info.size_bytes:
            raise InvalidRange(f"[{start}, {end}) of {info.size_bytes} bytes", key=key)
        return memoryview(data)[start:end]

    async def head(self, key: str, *, complete: bool = False) -> ObjectInfo:
        return (await self._find(key))[0]

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = LIST_LIMIT_MAX
    ) -> Sequence[ObjectInfo]:
        assert 0 < limit <= LIST_LIMIT_MAX
        check_prefix(prefix)
        await asyncio.sleep(0)
        first = bisect_right(self._sorted_keys, max(prefix, start_after))
        page = self._sorted_keys[first : first + limit]
        return [self._objects[key][0] for key in page if key.startswith(prefix)]

    async def delete(self, keys: Iterable[str]) -> dict[str, ObjectStoreError]:
        checked = [check_key(key) for key in keys]
        await asyncio.sleep(0)
        refused: dict[str, ObjectStoreError] = {}
        for key in checked:
            if key in self.held and key in self._objects:
                refused[key] = AccessDenied("under a legal hold", key=key)
            elif self._objects.pop(key, None) is not None:
                del self._sorted_keys[bisect_right(self._sorted_keys, key) - 1]
        return refused

    async def list_uploads(self, prefix: str) -> Sequence[UploadInfo]:
        check_prefix(prefix)
        await asyncio.sleep(0)
        return [each for each in self.uploads if each.key.startswith(prefix)][:LIST_LIMIT_MAX]

    async def abort_upload(self, upload: UploadInfo) -> None:
        await asyncio.sleep(0)
        if upload in self.uploads:
            self.uploads.remove(upload)

    async def keeps_old_versions(self) -> str | None:
        return self.old_versions

    async def close(self) -> None:
        """Keeps its objects, so that a test can open the same store again."""
