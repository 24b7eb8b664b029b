"""Uploads in parts that come to no end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tiering.objects.port import Buffer, ObjectStore

MIB = 1024 * 1024


async def give_up_uploads(store: ObjectStore) -> None:
    """One that is cancelled in its middle, and one whose source fails."""
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[Buffer]:
        for _ in range(13):
            yield bytes(MIB)
        reached.set()
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    async def failing() -> AsyncIterator[Buffer]:
        for _ in range(13):
            yield bytes(MIB)
        raise OSError("the source broke")

    put = asyncio.ensure_future(store.put("cancelled", endless(), size_bytes=100 * MIB))
    await reached.wait()
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    with pytest.raises(OSError, match="the source broke"):
        await store.put("failed", failing(), size_bytes=100 * MIB)
