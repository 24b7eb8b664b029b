"""How bytes get to Google: in one request, or in the parts of a resumable upload, each under a condition on the generation.

Google decides the condition when the object appears, and compares the checksum with what it has got by then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import requests
from google.cloud.storage import Blob, Bucket

from tiering.errors import NotFound, Throttled, Timeout, Unavailable
from tiering.ledger.rows import Operation
from tiering.metering.attribution import of_class
from tiering.metering.meter import Meter
from tiering.objects.classes import GCS_CLASSES
from tiering.objects.gcs.checksums import base64_of
from tiering.objects.gcs.client import GoogleClient
from tiering.objects.gcs.config import PART_UNIT_BYTES, GcsConfig
from tiering.objects.gcs.infos import info_of, told_info
from tiering.objects.gcs.uploads import Upload
from tiering.objects.port import Buffer, Content, ObjectInfo, PutOptions
from tiering.objects.streams import Ranged, ReadFailed, Span, parts, spans
from tiering.tasks import begin

ABORT_TIMEOUT_S = 5.0  # How long a cancelled upload may take to be forgotten by the server.
PART_PAUSE_S = 0.2
_MISSED = (Throttled, Timeout, Unavailable)


class Puts:
    """The writes of one store. Conditions: a generation, 0 for an object that must not exist, None for whatever is there."""

    def __init__(self, config: GcsConfig, google: GoogleClient, meter: Meter) -> None:
        self._config = config
        self._google = google
        self._meter = meter
        self._sessions = requests.Session()
        self._rng = random.Random()

    def close(self) -> None:
        self._sessions.close()

    async def whole(self, key: str, data: Buffer, generation: int | None, options: PutOptions) -> ObjectInfo:
        def work(bucket: Bucket) -> ObjectInfo:
            blob = blob_to_be(bucket, self._config.full_key(key), options)
            blob.upload_from_string(
                bytes(data),
                content_type="application/octet-stream",
                if_generation_match=generation,
                timeout=self._config.upload_timeout_s,
                retry=None,
                checksum="crc32c" if options.crc32c is None else None,
            )
            return info_of(blob, key)

        with of_class(options.storage_class.label):
            return await self._google.call(key, work)

    async def in_parts(
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
                blob_to_be(bucket, self._config.full_key(key), options).create_resumable_upload_session(
                    content_type="application/octet-stream",
                    size=size_bytes,
                    checksum=None,
                    if_generation_match=generation,
                    timeout=self._config.timeout_s,
                    retry=None,
                )
            )

        with of_class(options.storage_class.label):
            url = await self._google.call(key, open_session)
        upload = Upload(self._config, self._sessions, self._noting(key, options), url, key, size_bytes)
        bodies: AsyncGenerator[Span, None] | AsyncGenerator[memoryview, None]
        if isinstance(content, Ranged) and options.crc32c is not None:
            bodies = spans(content, size_bytes, part_bytes)
        else:
            bodies = parts(key, content, size_bytes, part_bytes, options.crc32c)
        try:
            async with aclosing(bodies) as stream:
                async for part in stream:
                    await self._send(key, upload, part, options.crc32c)
        except NotFound:  # No object is missing, but the session: Google has forgotten it.
            raise Unavailable("the server has forgotten the upload", key=key) from None
        except BaseException:
            await self._forget(key, upload)
            raise
        if upload.made is None:
            raise Unavailable("the server has all bytes and shows no object", key=key)
        return told_info(upload.made, key)

    def _noting(self, key: str, options: PutOptions) -> Callable[[Operation, int, bool], None]:
        """Counts the requests of one session, which are made on threads."""
        loop, storage_class = asyncio.get_running_loop(), options.storage_class.label

        def note(operation: Operation, sent_bytes: int, failed: bool) -> None:
            self._meter.note_on(
                loop, operation, key, failed=failed, sent_bytes=sent_bytes, storage_class=storage_class
            )

        return note

    async def _send(self, key: str, upload: Upload, part: Span | Buffer, crc: int | None) -> None:
        for attempt in range(self._config.part_retries + 1):
            try:
                if attempt:
                    await self._google.run(key, upload.ask)
                if upload.made is None:
                    await self._google.run(key, lambda: upload.send(part, crc))
                return
            except ReadFailed as failed:
                raise failed.error from None
            except _MISSED:
                if attempt == self._config.part_retries:
                    raise
            await asyncio.sleep(self._rng.uniform(0, PART_PAUSE_S * 2**attempt))

    async def _forget(self, key: str, upload: Upload) -> None:
        """A thread may still be sending a part, which is refused then. Whoever is cancelled waits a little for that."""
        over = begin(self._google.run(key, upload.cancel))
        await asyncio.wait([over], timeout=ABORT_TIMEOUT_S)


def blob_to_be(bucket: Bucket, full_key: str, options: PutOptions) -> Blob:
    """An object that is about to be written: its class is always named, since the bucket may have another one for what names
    none."""
    blob = bucket.blob(full_key)
    blob.storage_class = GCS_CLASSES[options.storage_class].name
    if options.crc32c is not None:
        blob.crc32c = base64_of(options.crc32c)
    return blob


def part_bytes_of(wanted_bytes: int) -> int:
    """The nearest part size from there on that Google takes."""
    return max(1, -(-wanted_bytes // PART_UNIT_BYTES)) * PART_UNIT_BYTES
