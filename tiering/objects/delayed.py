"""A fixed delay before each read: a distant store, for benchmarks and for tests of read-ahead."""

from __future__ import annotations

import asyncio

from tiering.objects.port import WHOLE_BYTES_MAX, Buffer, ObjectInfo, ObjectStore
from tiering.objects.wrapping import WrappedStore


class DelayedStore(WrappedStore):
    """Concurrent reads are delayed concurrently: this models latency, not bandwidth."""

    def __init__(self, inner: ObjectStore, *, get_delay_ms: int) -> None:
        super().__init__(inner)
        self._delay_s = get_delay_ms / 1_000

    async def get(self, key: str, *, bytes_max: int = WHOLE_BYTES_MAX) -> tuple[ObjectInfo, Buffer]:
        await asyncio.sleep(self._delay_s)
        return await self.inner.get(key, bytes_max=bytes_max)

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        await asyncio.sleep(self._delay_s)
        return await self.inner.get_range(key, start, end)
