"""Google Cloud Storage; imported only to open a ``gs://`` store.

Two clients, each for what it does better. Ranges, whole reads and deletes go through obstore (Rust, off the GIL). What
writes or describes goes through google-cloud-storage on the store's threads: obstore writes in the XML API, which knows
neither a condition on an upload in parts nor a checksum of it, and its lists and heads tell no class and its lists no
generation.

The version is the generation: it changes with every write, a change of class included. A condition on it is decided by
Google when the object appears, also for an upload in parts. Neither client retries: ``retrying`` does, knowing which outcome
is ambiguous; only a part is sent again here, since no other layer still has its bytes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime

import obstore
import requests
from google.cloud.storage import Blob, Bucket

from tiering.errors import (
    InvalidRange,
    NotFound,
    ObjectStoreError,
    PreconditionFailed,
    Throttled,
    Timeout,
    Unavailable,
)
from tiering.objects.classes import GCS_CLASSES, StorageClass, class_named
from tiering.objects.gcs.client import (
    OBSTORE_FAILURES,
    GoogleClient,
    credentials_error,
    obstore_error,
    open_obstore,
)
from tiering.objects.gcs.config import PART_UNIT_BYTES, WHOLE_PUT_BYTES_MAX, GcsConfig
from tiering.objects.gcs.parts import parts
from tiering.objects.gcs.uploads import Upload, base64_of, crc_of
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
from tiering.tasks import begin

DELETES_AT_ONCE = 16
ABORT_TIMEOUT_S = 5.0  # How long a cancelled upload may take to be forgotten by the server.
PART_PAUSE_S = 0.2
_FIELDS = "items(name,size,generation,updated,storageClass,crc32c),nextPageToken"
_MISSED = (Throttled, Timeout, Unavailable)


class GcsObjectStore:
    """``ObjectStore`` on one bucket and prefix."""

    def __init__(self, config: GcsConfig) -> None:
        self._config = config
        self._google = GoogleClient(config)
        self._client = open_obstore(config, self._google)
        self._sessions = requests.Session()
        self._rng = random.Random()

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
        generation = 0 if if_absent else None
        part_bytes = _part_bytes(options.part_bytes or self._config.part_bytes)
        if size_bytes <= min(part_bytes, WHOLE_PUT_BYTES_MAX):
            data = await whole(key, content, size_bytes, options.crc32c)
            return await self._put_whole(key, data, generation, options)
        return await self._put_in_parts(key, content, size_bytes, part_bytes, generation, options)

    async def put_if_match(self, key: str, data: Buffer, version: str) -> ObjectInfo:
        check_key(key)
        check_whole(key, len(data))
        generation = _generation(version, key)
        if len(data) <= WHOLE_PUT_BYTES_MAX:
            return await self._put_whole(key, data, generation, PLAIN)
        part_bytes = _part_bytes(self._config.part_bytes)
        return await self._put_in_parts(key, data, len(data), part_bytes, generation, PLAIN)

    async def _put_whole(
        self, key: str, data: Buffer, generation: int | None, options: PutOptions
    ) -> ObjectInfo:
        """``generation`` is the condition, 0 for an object that must not exist."""

        def work(bucket: Bucket) -> ObjectInfo:
            blob = self._blob(bucket, key, options)
            blob.upload_from_string(
                bytes(data),
                content_type="application/octet-stream",
                if_generation_match=generation,
                timeout=self._config.upload_timeout_s,
                retry=None,
                checksum="crc32c" if options.crc32c is None else None,
            )
            return _info(blob, key)

        return await self._google.call(key, work)

    async def _put_in_parts(
        self,
        key: str,
        content: Content,
        size_bytes: int,
        part_bytes: int,
        generation: int | None,
        options: PutOptions,
    ) -> ObjectInfo:
        """Nothing is visible before the last part: a put that fails or is cancelled earlier leaves nothing."""

        def open_session(bucket: Bucket) -> str:
            return str(
                self._blob(bucket, key, options).create_resumable_upload_session(
                    content_type="application/octet-stream",
                    size=size_bytes,
                    checksum=None,
                    if_generation_match=generation,
                    timeout=self._config.timeout_s,
                    retry=None,
                )
            )

        url = await self._google.call(key, open_session)
        upload = Upload(self._config, self._sessions, url, key, size_bytes)
        try:
            async with aclosing(parts(key, content, size_bytes, part_bytes, options.crc32c)) as stream:
                async for part in stream:
                    await self._send(key, upload, part, options.crc32c)
        except BaseException:
            await self._forget(key, upload)
            raise
        if upload.made is None:
            raise Unavailable("the server has all bytes and shows no object", key=key)
        return _told(upload.made, key)

    async def _send(self, key: str, upload: Upload, part: Buffer, crc: int | None) -> None:
        for attempt in range(self._config.part_retries + 1):
            try:
                if attempt:
                    await self._google.run(key, upload.ask)
                if upload.made is None:
                    await self._google.run(key, lambda: upload.send(part, crc))
                return
            except _MISSED:
                if attempt == self._config.part_retries:
                    raise
            await asyncio.sleep(self._rng.uniform(0, PART_PAUSE_S * 2**attempt))

    async def _forget(self, key: str, upload: Upload) -> None:
        """A thread may still be sending a part, which is refused then. Whoever is cancelled waits a little for that."""
        over = begin(self._google.run(key, upload.cancel))
        await asyncio.wait([over], timeout=ABORT_TIMEOUT_S)

    async def copy(
        self, source: str, target: str, *, version: str, storage_class: StorageClass
    ) -> ObjectInfo:
        """A rewrite. Onto the same key it is an upload to Google: under the same condition on what it replaces."""
        check_key(source)
        check_key(target)
        generation = _generation(version, source)

        def work(bucket: Bucket) -> ObjectInfo:
            found = bucket.blob(self._config.full_key(source))
            made = self._blob(bucket, target, PutOptions(storage_class))
            token: str | None = None
            while True:
                token, _, _ = made.rewrite(
                    found,
                    token=token,
                    if_source_generation_match=generation,
                    if_generation_match=generation if source == target else None,
                    timeout=self._config.timeout_s,
                    retry=None,
                )
                if token is None:
                    return _info(made, target)

        return await self._google.call(source, work)

    async def get(self, key: str, *, bytes_max: int = WHOLE_BYTES_MAX) -> tuple[ObjectInfo, Buffer]:
        check_key(key)
        try:
            result = await obstore.get_async(self._client, key)
            meta = result.meta
            check_whole(key, meta["size"], bytes_max)
            data = memoryview(await result.bytes_async())
        except OBSTORE_FAILURES as error:
            raise await self._error(error, key) from None
        if len(data) != meta["size"]:
            raise Unavailable(f"{len(data)} of {meta['size']} bytes came", key=key)
        modified_ms = int(meta["last_modified"].timestamp() * 1_000)
        return ObjectInfo(key, meta["size"], meta["version"] or "", modified_ms), data

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        assert 0 <= start < end, "a range holds at least one byte"
        check_key(key)
        try:
            data = memoryview(await obstore.get_range_async(self._client, key, start=start, end=end))
        except OBSTORE_FAILURES as error:
            raise await self._error(error, key) from None
        if len(data) != end - start:
            raise InvalidRange(f"[{start}, {end}) gave only {len(data)} bytes", key=key)
        return data

    async def head(self, key: str, *, complete: bool = False) -> ObjectInfo:
        """Always complete: the class costs no more."""
        check_key(key)

        def work(bucket: Bucket) -> ObjectInfo:
            blob = bucket.blob(self._config.full_key(key))
            blob.reload(timeout=self._config.timeout_s, retry=None)
            return _info(blob, key)

        return await self._google.call(key, work)

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = LIST_LIMIT_MAX
    ) -> Sequence[ObjectInfo]:
        """Google's ``startOffset`` is inclusive: ``!`` comes behind the key itself and before all that a key goes on with.
        A page of Google's may be short of what was asked for, with more behind it."""
        assert 0 < limit <= LIST_LIMIT_MAX
        check_prefix(prefix)
        own = self._config.full_key("")

        def work(bucket: Bucket) -> list[ObjectInfo]:
            blobs = bucket.client.list_blobs(
                bucket,
                prefix=own + prefix,
                start_offset=f"{own}{start_after}!" if start_after else None,
                max_results=limit,
                fields=_FIELDS,
                timeout=self._config.timeout_s,
                retry=None,
            )
            return [_info(blob, blob.name.removeprefix(own)) for blob in blobs]

        return await self._google.call(prefix, work)

    async def delete(self, keys: Iterable[str]) -> dict[str, ObjectStoreError]:
        """A request each, of which Google bills none."""
        named = [check_key(key) for key in keys]
        turns = asyncio.Semaphore(DELETES_AT_ONCE)

        async def single(key: str) -> ObjectStoreError | None:
            async with turns:
                try:
                    await obstore.delete_async(self._client, [key])
                except OBSTORE_FAILURES as error:
                    found = await self._error(error, key)
                    return None if isinstance(found, NotFound) else found
                return None

        answers = await asyncio.gather(*map(single, named))
        return {key: error for key, error in zip(named, answers, strict=True) if error is not None}

    async def list_uploads(self, prefix: str) -> Sequence[UploadInfo]:
        """None ever: Google tells no sessions, keeps them a week at most, and bills nothing for them."""
        check_prefix(prefix)
        return []

    async def abort_upload(self, upload: UploadInfo) -> None:
        """There is none that could be named."""

    async def close(self) -> None:
        """Connections of obstore's end when they are idle."""
        self._google.close()
        self._sessions.close()

    def _blob(self, bucket: Bucket, key: str, options: PutOptions) -> Blob:
        """The object to be: its class is always named, since the bucket may have another one for what names none."""
        blob = bucket.blob(self._config.full_key(key))
        blob.storage_class = GCS_CLASSES[options.storage_class].name
        if options.crc32c is not None:
            blob.crc32c = base64_of(options.crc32c)
        return blob

    async def _error(self, error: Exception, key: str) -> ObjectStoreError:
        found = await credentials_error(error, key, self._google)
        return found or obstore_error(error, key, self._config)


def _part_bytes(wanted_bytes: int) -> int:
    return max(1, -(-wanted_bytes // PART_UNIT_BYTES)) * PART_UNIT_BYTES


def _generation(version: str, key: str) -> int:
    """A version that is no generation of Google's is that of no object."""
    if not version.isdigit() or version == "0":
        raise PreconditionFailed("no object has this version", key=key)
    return int(version)


def _info(blob: Blob, key: str) -> ObjectInfo:
    return _described(key, blob.size, blob.generation, blob.updated, blob.storage_class, blob.crc32c)


def _told(row: Mapping[str, str], key: str) -> ObjectInfo:
    """From an object's resource."""
    updated = datetime.fromisoformat(row["updated"])
    return _described(
        key, row["size"], row["generation"], updated, row.get("storageClass"), row.get("crc32c")
    )


def _described(
    key: str,
    size_bytes: int | str,
    generation: int | str,
    updated: datetime | None,
    class_name: str | None,
    crc: str | None,
) -> ObjectInfo:
    return ObjectInfo(
        key,
        int(size_bytes),
        str(generation),
        int(updated.timestamp() * 1_000) if updated is not None else 0,
        class_named(GCS_CLASSES, class_name or ""),
        crc_of(crc) if crc else None,
    )
