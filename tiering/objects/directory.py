"""The embedded default: a directory of this machine (or a mounted one) as the object store.

All blocking work happens in ``files.ObjectFiles``, on this store's own threads; one hop per verb, and one per MiB of a
stream. A cancelled verb returns at once; a thread that is inside a system call finishes it and cleans up after
itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from tiering.errors import Misconfigured, ObjectStoreError
from tiering.objects.classes import StorageClass
from tiering.objects.files import ObjectFiles
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
from tiering.objects.staged_files import StagedFile
from tiering.objects.streams import Ranged, Span, pieces, spans

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

SPAN_BYTES = 8 * 1024 * 1024  # Read and written in one hop.
PIECE_BYTES = 1024 * 1024  # Smaller buffers of a stream are gathered, so that hops stay rare.
DELETE_BATCH = 256  # Keys deleted per hop; other verbs get their turn in between.


class DirectoryStore:
    """``ObjectStore`` on a directory. ``threads`` bounds how many system calls may wait for the disk at once. With
    ``writes`` false, a missing directory is not created."""

    def __init__(self, root: Path, *, durable: bool = True, threads: int = 8, writes: bool = True) -> None:
        self._files = ObjectFiles(root, durable=durable, writes=writes)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="objects")

    async def _run(self, work: Callable[[*Ts], R], *args: *Ts) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

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
        _check_class(key, options.storage_class)
        return await self._write(key, content, size_bytes, if_absent, None, options.crc32c)

    async def put_if_match(self, key: str, data: Buffer, version: str) -> ObjectInfo:
        check_key(key)
        check_whole(key, len(data))
        return await self._write(key, data, len(data), False, version, None)

    async def copy(
        self, source: str, target: str, *, version: str, storage_class: StorageClass
    ) -> ObjectInfo:
        _check_class(target, storage_class)
        return await self._run(self._files.copy, check_key(source), check_key(target), version)

    async def _write(
        self,
        key: str,
        content: Content,
        size_bytes: int,
        if_absent: bool,
        if_match: str | None,
        crc: int | None,
    ) -> ObjectInfo:
        files = self._files
        staged = files.stage(key, size_bytes)
        try:
            if isinstance(content, Ranged):
                async for span in spans(content, size_bytes, SPAN_BYTES):
                    await self._run(_copy, span, staged)
            else:
                async with aclosing(pieces(key, content, size_bytes, PIECE_BYTES, crc)) as stream:
                    async for piece in stream:
                        await self._run(staged.write, piece)
            return await self._run(lambda: files.publish(staged, if_absent=if_absent, if_match=if_match))
        except BaseException:
            # Not awaited: a cancelled caller waits for nothing, and a thread still inside write() finishes first.
            with suppress(RuntimeError):  # Closed meanwhile: the next process to open the root removes it.
                self._threads.submit(staged.discard)
            raise

    async def get(self, key: str, *, bytes_max: int = WHOLE_BYTES_MAX) -> tuple[ObjectInfo, Buffer]:
        return await self._run(self._files.read, check_key(key), bytes_max)

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        assert 0 <= start < end, "a range holds at least one byte"
        return await self._run(self._files.read_range, check_key(key), start, end)

    async def head(self, key: str, *, complete: bool = False) -> ObjectInfo:
        return await self._run(self._files.head, check_key(key))

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = LIST_LIMIT_MAX
    ) -> Sequence[ObjectInfo]:
        assert 0 < limit <= LIST_LIMIT_MAX
        return await self._run(self._files.list, check_prefix(prefix), start_after, limit)

    async def delete(self, keys: Iterable[str]) -> dict[str, ObjectStoreError]:
        checked = [check_key(key) for key in keys]
        refused: dict[str, ObjectStoreError] = {}
        for start in range(0, len(checked), DELETE_BATCH):
            refused |= await self._run(self._files.delete, checked[start : start + DELETE_BATCH])
        return refused

    async def list_uploads(self, prefix: str) -> Sequence[UploadInfo]:
        """A file that is being written has no key yet."""
        return [] if check_prefix(prefix) else await self._run(self._files.uploads)

    async def abort_upload(self, upload: UploadInfo) -> None:
        await self._run(self._files.abort_upload, upload.upload_id)

    async def keeps_old_versions(self) -> str | None:
        return None

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        self._files.close()


def _copy(span: Span, staged: StagedFile) -> None:
    for piece in span.pieces():
        staged.write([piece])


def _check_class(key: str, storage_class: StorageClass) -> None:
    if storage_class != StorageClass.STANDARD:
        message = f"a directory has one storage class, standard, not {storage_class.label}"
        raise Misconfigured(message, key=key)
