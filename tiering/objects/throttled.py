"""A byte rate that uploads and downloads keep to, first come first served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing

from tiering.objects.port import WHOLE_BYTES_MAX, Buffer, Content, ObjectInfo, ObjectStore
from tiering.objects.streams import is_repeatable, pieces
from tiering.objects.wrapping import WrappedStore


class TokenBucket:
    """``bytes_per_second`` in the long run, ``burst_bytes`` at once after a pause; 0 bytes per second: no
    limit.

    Invariant: whoever comes has to wait until everything granted before fits the rate; a grant is never
    taken back, so a cancelled waiter's bytes are lost to the others (they are few).
    """

    def __init__(
        self, bytes_per_second: int, burst_bytes: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = bytes_per_second
        self._burst_s = (burst_bytes or bytes_per_second) / bytes_per_second if bytes_per_second else 0.0
        self._clock = clock
        self._granted_until_s = float("-inf")

    def reserve(self, size_bytes: int) -> float:
        """Seconds to wait before sending so many bytes."""
        if not self._rate:
            return 0.0
        now_s = self._clock()
        begin_s = max(self._granted_until_s, now_s - self._burst_s)
        self._granted_until_s = begin_s + size_bytes / self._rate
        return max(0.0, self._granted_until_s - now_s)

    async def take(self, size_bytes: int) -> None:
        pause_s = self.reserve(size_bytes)
        if pause_s > 0:
            await asyncio.sleep(pause_s)


class ThrottledStore(WrappedStore):
    """Waits before bytes are sent, and before a range is asked for. Small verbs pass freely."""

    def __init__(self, inner: ObjectStore, *, upload: TokenBucket, download: TokenBucket) -> None:
        super().__init__(inner)
        self._upload = upload
        self._download = download

    async def put(
        self, key: str, content: Content, *, size_bytes: int, if_absent: bool = False
    ) -> ObjectInfo:
        if isinstance(content, (bytes, bytearray, memoryview)):
            await self._upload.take(size_bytes)
        elif is_repeatable(content):
            content = _Paced(key, content, size_bytes, self._upload)
        else:
            content = aiter(_Paced(key, content, size_bytes, self._upload))
        return await self.inner.put(key, content, size_bytes=size_bytes, if_absent=if_absent)

    async def put_if_match(self, key: str, data: Buffer, etag: str) -> ObjectInfo:
        await self._upload.take(len(data))
        return await self.inner.put_if_match(key, data, etag)

    async def get(self, key: str, *, bytes_max: int = WHOLE_BYTES_MAX) -> tuple[ObjectInfo, Buffer]:
        info, data = await self.inner.get(key, bytes_max=bytes_max)
        await self._download.take(len(data))  # The size was not known before.
        return info, data

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        await self._download.take(end - start)
        return await self.inner.get_range(key, start, end)


class _Paced(AsyncIterable[Buffer]):
    """A stream that waits for its tokens; as repeatable as what it wraps."""

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
