"""A byte rate that uploads and downloads keep to, first come first served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing

from tiering.objects.port import PLAIN, WHOLE_BYTES_MAX, Buffer, Content, ObjectInfo, ObjectStore, PutOptions
from tiering.objects.streams import is_repeatable, pieces
from tiering.objects.wrapping import WrappedStore

# A waiter looks again after this time: the rate may have changed meanwhile.
RECHECK_S = 0.5


class TokenBucket:
    """``bytes_per_second`` in the long run, ``burst_bytes`` at once after a pause (0: the bytes of one second). 0 bytes
    per second means no limit. The rate may change at any time, also for callers that already wait.

    Invariant: a caller has to wait until everything granted before fits the rate. A grant is never taken back, so the
    bytes of a cancelled waiter are lost to the others (they are few).
    """

    def __init__(
        self, bytes_per_second: int, burst_bytes: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = bytes_per_second
        self._burst_bytes = burst_bytes
        self._clock = clock
        # ``_allowed_bytes``: what the rate had allowed by ``_counted_at_s``; ``_granted_bytes``: what was granted so far.
        self._allowed_bytes = 0.0
        self._counted_at_s = clock()
        self._granted_bytes = float("-inf")

    @property
    def is_limited(self) -> bool:
        return self._rate > 0

    def set_rate(self, bytes_per_second: int) -> None:
        if bytes_per_second == self._rate:
            return
        self._allowed_bytes = self._allowed()
        self._counted_at_s = self._clock()
        if not self._rate:
            # Bytes that passed without a limit are not charged later.
            self._granted_bytes = float("-inf")
        self._rate = bytes_per_second

    def reserve(self, size_bytes: int) -> float:
        """Seconds to wait before sending ``size_bytes``."""
        return self._due_s(self._grant(size_bytes)) if self._rate else 0.0

    async def take(self, size_bytes: int) -> None:
        if not self._rate:
            return
        mark = self._grant(size_bytes)
        while (pause_s := self._due_s(mark)) > 0:
            await asyncio.sleep(min(pause_s, RECHECK_S))

    def _grant(self, size_bytes: int) -> float:
        """The total of granted bytes, including these."""
        burst = self._burst_bytes or self._rate
        self._granted_bytes = max(self._granted_bytes, self._allowed() - burst) + size_bytes
        return self._granted_bytes

    def _due_s(self, granted_bytes: float) -> float:
        return max(0.0, (granted_bytes - self._allowed()) / self._rate) if self._rate else 0.0

    def _allowed(self) -> float:
        return self._allowed_bytes + (self._clock() - self._counted_at_s) * self._rate


class ThrottledStore(WrappedStore):
    """Waits before bytes are sent, and before a range is asked for. Small verbs pass freely."""

    def __init__(self, inner: ObjectStore, *, upload: TokenBucket, download: TokenBucket) -> None:
        super().__init__(inner)
        self._upload = upload
        self._download = download

    def set_rates(self, upload_bytes_per_second: int, download_bytes_per_second: int) -> None:
        """0: no limit."""
        self._upload.set_rate(upload_bytes_per_second)
        self._download.set_rate(download_bytes_per_second)

    async def take_upload(self, size_bytes: int) -> None:
        """Waits until so many bytes may be sent, by whoever shares this store's rate."""
        await self._upload.take(size_bytes)

    async def put(
        self,
        key: str,
        content: Content,
        *,
        size_bytes: int,
        if_absent: bool = False,
        options: PutOptions = PLAIN,
    ) -> ObjectInfo:
        if not self._upload.is_limited:
            pass
        elif isinstance(content, (bytes, bytearray, memoryview)):
            await self._upload.take(size_bytes)
        elif is_repeatable(content):
            content = _Paced(key, content, size_bytes, self._upload)
        else:
            content = aiter(_Paced(key, content, size_bytes, self._upload))
        return await self.inner.put(key, content, size_bytes=size_bytes, if_absent=if_absent, options=options)

    async def put_if_match(self, key: str, data: Buffer, version: str) -> ObjectInfo:
        await self._upload.take(len(data))
        return await self.inner.put_if_match(key, data, version)

    async def get(self, key: str, *, bytes_max: int = WHOLE_BYTES_MAX) -> tuple[ObjectInfo, Buffer]:
        info, data = await self.inner.get(key, bytes_max=bytes_max)
        await self._download.take(len(data))  # The size was not known before.
        return info, data

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        await self._download.take(end - start)
        return await self.inner.get_range(key, start, end)


class _Paced(AsyncIterable[Buffer]):
    """A stream that waits for its tokens; repeatable if the wrapped one is."""

    def __init__(self, key: str, content: Content, size_bytes: int, bucket: TokenBucket) -> None:
        self._key = key
        self._content = content
        self._size_bytes = size_bytes
        self._bucket = bucket

    async def __aiter__(self) -> AsyncGenerator[Buffer, None]:
        async with aclosing(pieces(self._key, self._content, self._size_bytes, 1)) as stream:
            async for piece in stream:
                for buffer in piece:
                    await self._bucket.take(len(buffer))
                    yield buffer
