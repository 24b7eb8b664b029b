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
from collections.abc import Iterable, Sequence
from functools import partial

import obstore
from google.cloud.storage import Bucket

from tiering.errors import AccessDenied, InvalidRange, NotFound, ObjectStoreError, Unavailable
from tiering.ledger.rows import Operation
from tiering.metering.attribution import of_class
from tiering.metering.meter import Meter
from tiering.objects.classes import StorageClass
from tiering.objects.gcs.client import (
    OBSTORE_FAILURES,
    GoogleClient,
    credentials_error,
    obstore_error,
    open_obstore,
    settings_of,
)
from tiering.objects.gcs.config import WHOLE_PUT_BYTES_MAX, GcsConfig
from tiering.objects.gcs.infos import generation_of, info_of
from tiering.objects.gcs.lifecycle import kept_versions
from tiering.objects.gcs.puts import Puts, blob_to_be, part_bytes_of
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

DELETES_AT_ONCE = 16
_FIELDS = "items(name,size,generation,updated,storageClass,crc32c),nextPageToken"


class GcsObjectStore:
    """``ObjectStore`` on one bucket and prefix."""

    def __init__(self, config: GcsConfig, meter: Meter | None = None) -> None:
        self._config = config
        self._meter = meter or Meter()
        self._google = GoogleClient(config, self._meter)
        self._client = open_obstore(config, self._google)
        self._puts = Puts(config, self._google, self._meter)

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
        part_bytes = part_bytes_of(options.part_bytes or self._config.part_bytes)
        if size_bytes <= min(part_bytes, WHOLE_PUT_BYTES_MAX):
            data = await whole(key, content, size_bytes, options.crc32c)
            return await self._puts.whole(key, data, generation, options)
        return await self._puts.in_parts(key, content, size_bytes, part_bytes, generation, options)

    async def put_if_match(self, key: str, data: Buffer, version: str) -> ObjectInfo:
        check_key(key)
        check_whole(key, len(data))
        generation = generation_of(version, key)
        if len(data) <= WHOLE_PUT_BYTES_MAX:
            return await self._puts.whole(key, data, generation, PLAIN)
        part_bytes = part_bytes_of(self._config.part_bytes)
        return await self._puts.in_parts(key, data, len(data), part_bytes, generation, PLAIN)

    async def copy(
        self, source: str, target: str, *, version: str, storage_class: StorageClass
    ) -> ObjectInfo:
        """A rewrite. Onto the same key it is an upload to Google: under the same condition on what it replaces."""
        check_key(source)
        check_key(target)
        generation = generation_of(version, source)

        def work(bucket: Bucket) -> ObjectInfo:
            found = bucket.blob(self._config.full_key(source))
            made = blob_to_be(bucket, self._config.full_key(target), PutOptions(storage_class))
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
                    return info_of(made, target)

        with of_class(storage_class.label):
            return await self._google.call(source, work)

    async def get(self, key: str, *, bytes_max: int = WHOLE_BYTES_MAX) -> tuple[ObjectInfo, Buffer]:
        check_key(key)
        try:
            with self._meter.asked(Operation.GET, key) as asked:
                result = await obstore.get_async(self._client, key)
                meta = result.meta
                check_whole(key, meta["size"], bytes_max)
                data = memoryview(await result.bytes_async())
                asked.received_bytes = len(data)
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
            with self._meter.asked(Operation.GET, key) as asked:
                data = memoryview(await obstore.get_range_async(self._client, key, start=start, end=end))
                asked.received_bytes = len(data)
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
            return info_of(blob, key)

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
            return [info_of(blob, blob.name.removeprefix(own)) for blob in blobs]

        return await self._google.call(prefix, work)

    async def delete(self, keys: Iterable[str]) -> dict[str, ObjectStoreError]:
        """A request each, of which Google bills none."""
        named = [check_key(key) for key in keys]
        turns = asyncio.Semaphore(DELETES_AT_ONCE)

        async def single(key: str) -> ObjectStoreError | None:
            async with turns:
                try:
                    with self._meter.asked(Operation.DELETE, key):
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

    async def keeps_old_versions(self) -> str | None:
        """The role of an object's user does not let it see this: then it counts as kept."""
        try:
            return kept_versions(await self._google.call("", partial(settings_of, self._config)))
        except AccessDenied as error:
            return f"{error}; whether it keeps old versions is not known without storage.buckets.get"

    async def close(self) -> None:
        """Connections of obstore's end when they are idle."""
        self._google.close()
        self._puts.close()

    async def _error(self, error: Exception, key: str) -> ObjectStoreError:
        found = await credentials_error(error, key, self._google)
        return found or obstore_error(error, key, self._config)
