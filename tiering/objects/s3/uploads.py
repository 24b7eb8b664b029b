"""Uploads in parts to S3: created, sent part by part, completed or aborted; each request on a thread, and counted.

A part that could not be sent is sent again; so are the requests around it. What can be read in parts is read while it is
sent. Of another stream no other layer still has the bytes: memory holds the parts being sent, and the one being filled.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial
from html import unescape

from urllib3.exceptions import HTTPError

from tiering.errors import ObjectStoreError, Throttled, Timeout, Unavailable
from tiering.ledger.rows import Operation
from tiering.metering.meter import Meter, is_unsent
from tiering.objects.classes import S3_CLASSES, StorageClass
from tiering.objects.port import Buffer, Content, PutOptions
from tiering.objects.s3.config import S3Config
from tiering.objects.s3.errors import classified
from tiering.objects.s3.http import Answer, SignedHttp, words_of, words_of_refusal
from tiering.objects.streams import Ranged, ReadFailed, Span, parts, spans
from tiering.tasks import begin
from tiering.threads import Threads

ABORT_TIMEOUT_S = 5.0  # How long a cancelled upload may take to abort at the server.
THREADS = 16
PAUSE_S = 0.2
_MISSED = (Throttled, Timeout, Unavailable)


class _Upload:
    """One that is under way. ``is_over``: nothing of it is sent again."""

    def __init__(self, key: str, storage_class: StorageClass) -> None:
        self.key = key
        self.storage_class = storage_class
        self.id = ""
        self.is_over = False
        self.sending: list[asyncio.Future[str]] = []
        self.free: list[bytearray] = []
        """Buffers of parts that were sent."""


class Uploads:
    """Those of one store."""

    def __init__(self, config: S3Config, meter: Meter) -> None:
        self._config = config
        self._meter = meter
        self._http = SignedHttp(config)
        self._threads = Threads(THREADS, "s3")
        self._rng = random.Random()

    def close(self) -> None:
        self._threads.close()
        self._http.close()

    async def put(
        self, key: str, content: Content, size_bytes: int, part_bytes: int, options: PutOptions
    ) -> str:
        """The etag of the object. Nothing is visible before the end: a put that fails or is cancelled earlier leaves
        nothing."""
        upload = _Upload(key, options.storage_class)
        creating = begin(self._create(upload))
        try:
            await asyncio.shield(creating)
            at_once = self._config.parts_sent_at_once(part_bytes, options.parts_at_once)
            tags = await self._send_all(upload, content, size_bytes, part_bytes, at_once, options.crc32c)
            return await self._complete(upload, tags)
        except BaseException:
            upload.is_over = True
            over = begin(self._forget(upload, creating))
            await asyncio.wait([over], timeout=ABORT_TIMEOUT_S)
            raise

    async def _create(self, upload: _Upload) -> None:
        headers = {"content-type": "application/octet-stream"}
        if upload.storage_class != StorageClass.STANDARD:
            headers["x-amz-storage-class"] = S3_CLASSES[upload.storage_class].name
        answer = await self._ask(upload, Operation.CREATE_UPLOAD, "POST", "uploads=", headers=headers)
        upload.id = _told(answer, "UploadId", upload.key)

    async def _send_all(
        self,
        upload: _Upload,
        content: Content,
        size_bytes: int,
        part_bytes: int,
        at_once: int,
        crc: int | None,
    ) -> list[str]:
        turns = asyncio.Semaphore(at_once)
        bodies: AsyncGenerator[Span, None] | AsyncGenerator[memoryview, None]
        if isinstance(content, Ranged):
            bodies = spans(content, size_bytes, part_bytes)
        else:
            bodies = parts(upload.key, content, size_bytes, part_bytes, crc, upload.free)
        async with aclosing(bodies) as stream:
            async for part in stream:
                await turns.acquire()
                for each in upload.sending:
                    if each.done():
                        each.result()
                sending = begin(self._send(upload, len(upload.sending) + 1, part))
                del part
                sending.add_done_callback(lambda _: turns.release())
                upload.sending.append(sending)
        return await asyncio.gather(*map(asyncio.shield, upload.sending))

    async def _send(self, upload: _Upload, number: int, part: Span | memoryview) -> str:
        query = f"partNumber={number}&uploadId={upload.id}"
        answer = await self._ask(upload, Operation.PART, "PUT", query, body=part)
        tag = answer.headers.get("ETag")
        if tag is None:
            raise Unavailable(f"part {number} was taken without an etag", key=upload.key)
        if not isinstance(part, Span):
            assert isinstance(part.obj, bytearray)
            upload.free.append(part.obj)
        return tag

    async def _complete(self, upload: _Upload, tags: list[str]) -> str:
        rows = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
            for number, tag in enumerate(tags, 1)
        )
        body = f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{rows}'
        body += "</CompleteMultipartUpload>"
        query = f"uploadId={upload.id}"
        answer = await self._ask(upload, Operation.COMPLETE_UPLOAD, "POST", query, body=body.encode())
        etag = _told(answer, "ETag", upload.key)
        return etag if etag.startswith('"') else f'"{etag}"'

    async def _forget(self, upload: _Upload, creating: asyncio.Future[None]) -> None:
        """Parts under way are waited for a little: what arrives behind the abort may stay."""
        with suppress(ObjectStoreError):
            await creating
        if not upload.id:
            return
        under_way = [each for each in upload.sending if not each.done()]
        if under_way:
            await asyncio.wait(under_way, timeout=ABORT_TIMEOUT_S / 2)
        with suppress(ObjectStoreError):
            query = f"uploadId={upload.id}"
            await self._ask(upload, Operation.ABORT_UPLOAD, "DELETE", query)

    # -- one request, and its repetitions

    async def _ask(
        self,
        upload: _Upload,
        operation: Operation,
        method: str,
        query: str,
        *,
        body: Buffer | Span = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        once = partial(
            self._once,
            asyncio.get_running_loop(),
            upload,
            operation,
            partial(self._http.send, method, upload.key, query, body=body, headers=headers),
            len(body) if operation is Operation.PART else 0,
        )
        for attempt in range(self._config.part_retries + 1):
            try:
                return await self._threads.run(once)
            except _MISSED:
                if upload.is_over or attempt == self._config.part_retries:
                    raise
            await asyncio.sleep(self._rng.uniform(0, PAUSE_S * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    def _once(
        self,
        loop: asyncio.AbstractEventLoop,
        upload: _Upload,
        operation: Operation,
        send: partial[Answer],
        sent_bytes: int,
    ) -> Answer:
        """On a thread, and counted there: it goes on when nobody waits for it any more."""
        is_sent, is_good = True, False
        try:
            answer = send(timeout_ms=self._config.part_timeout_ms)
            # S3 may find out that it cannot complete an upload after it has begun to answer.
            is_good = answer.status < 300 and b"<Error>" not in answer.body
        except (HTTPError, OSError) as error:
            is_sent = not is_unsent(error)
            raise classified(words_of(error), upload.key, self._config) from None
        except ReadFailed as failed:
            raise failed.error from None
        except ObjectStoreError:
            is_sent = False
            raise
        finally:
            if is_sent:
                self._meter.note_on(
                    loop,
                    operation,
                    upload.key,
                    failed=not is_good,
                    sent_bytes=sent_bytes,
                    storage_class=upload.storage_class.label,
                )
        if not is_good:
            raise classified(words_of_refusal(answer), upload.key, self._config)
        return answer


def _told(answer: Answer, tag: str, key: str) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>", answer.body.decode(errors="replace"))
    if found is None:
        raise Unavailable(f"the server's answer has no {tag}", key=key)
    return unescape(found[1])
