"""A stream cut into the parts of an upload: all of one size, but for the last one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from tiering.objects.port import Buffer, Content
from tiering.objects.streams import pieces


async def parts(
    key: str, content: Content, size_bytes: int, part_bytes: int, crc: int | None
) -> AsyncGenerator[Buffer, None]:
    """Parts of exactly ``part_bytes`` until what is left, which is never empty. The last one comes when the stream has ended
    and is what it was announced to be; raises as ``streams.pieces``."""
    part = bytearray()
    async with aclosing(pieces(key, content, size_bytes, 1, crc)) as stream:
        async for piece in stream:
            for buffer in piece:
                view = memoryview(buffer).cast("B")
                while len(view):
                    if len(part) == part_bytes:
                        yield part
                        part = bytearray()
                    taken = view[: part_bytes - len(part)]
                    part += taken
                    view = view[len(taken) :]
    yield part
