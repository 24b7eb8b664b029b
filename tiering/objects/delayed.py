"""A fixed delay before each read, and a bandwidth of each: a distant store, for benchmarks and tests of read-ahead."""

from __future__ import annotations

import asyncio

from tiering.objects.port import WHOLE_BYTES_MAX, Buffer, ObjectInfo, ObjectStore
from tiering.objects.wrapping import WrappedStore


class DelayedStore(WrappedStore):
    """Concurrent reads are delayed concurrently: each has ``stream_bytes_per_second`` to itself (0: no limit)."""

    def __init__(self, inner: ObjectStore, *, get_delay_ms: int, stream_bytes_per_second: int = 0) -> None:
        super().__init__(inner)
        self._delay_s = get_delay_ms / 1_000
        self._second_per_byte = 1 / stream_bytes_per_second if stream_bytes_per_second else 0.0

    async def get(self, key: str, *, bytes_max: int = WHOLE_BYTES_MAX) -> tuple[ObjectInfo, Buffer]:
        await asyncio.sleep(self._delay_s)
        info, data = await self.inner.get(key, bytes_max=bytes_max)
        await asyncio.sleep(len(data) * self._second_per_byte)
        return info, data

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        await asyncio.sleep(self._delay_s)
        now_s = asyncio.get_running_loop().time
        due_s = now_s() + (end - start) * self._second_per_byte
        data = await self.inner.get_range(key, start, end)
        if now_s() < due_s:
            await asyncio.sleep(due_s - now_s())
        return data
