"""How many parts of one upload are on their way at once, by a server that answers none before so many have come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.contract.objects.conftest import config_of
from tests.patience import PATIENT_S
from tests.servers.processes import S3Server
from tiering.objects.port import Buffer, PutOptions
from tiering.objects.s3.config import PART_BYTES_MIN, PART_BYTES_MOST, S3Config
from tiering.objects.s3.store import S3ObjectStore


class Barrier:
    """An S3 that takes one upload in parts; each part is answered once ``wanted`` are there, or all that are left."""

    def __init__(self, wanted: int, parts: int) -> None:
        self.wanted = wanted
        self.left = parts
        self.waiting: list[asyncio.Future[None]] = []
        self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: *(\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        what, body, etag = head.split(" ")[1], "", ""
        if "partNumber=" in what:
            await self._together()
            etag = 'ETag: "part"\r\n'
        elif "uploadId=" in what:
            body = "<CompleteMultipartUploadResult><ETag>&quot;whole&quot;</ETag></CompleteMultipartUploadResult>"
        else:
            body = "<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>"
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{etag}\r\n"
        writer.write((head + body).encode())
        await writer.drain()
        writer.close()

    async def _together(self) -> None:
        arrived = asyncio.get_running_loop().create_future()
        self.waiting.append(arrived)
        self.most = max(self.most, len(self.waiting))
        if len(self.waiting) >= min(self.wanted, self.left):
            self.left -= len(self.waiting)
            for each in self.waiting:
                each.set_result(None)
            self.waiting.clear()
        await arrived


@asynccontextmanager
async def barrier(wanted: int, parts: int) -> AsyncIterator[tuple[Barrier, S3ObjectStore]]:
    made = Barrier(wanted, parts)
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        where = S3Server("barrier", f"http://127.0.0.1:{port}", "id", "secret", "us-east-1", "bucket")
        yield made, S3ObjectStore(replace(config_of(where), part_bytes=PART_BYTES_MIN))


async def zeros(pieces: int) -> AsyncIterator[Buffer]:
    for _ in range(pieces):
        yield bytes(PART_BYTES_MIN)


@pytest.mark.parametrize("at_once", [1, 3])
async def test_parts_go_side_by_side_where_the_caller_allows(at_once: int) -> None:
    async with barrier(at_once, 6) as (server, store), asyncio.timeout(PATIENT_S):
        size = 6 * PART_BYTES_MIN
        options = PutOptions(parts_at_once=at_once)
        info = await store.put("k", zeros(6), size_bytes=size, options=options)
        assert (info.size_bytes, info.version, server.most) == (size, '"whole"', at_once)
        await store.close()


def test_large_parts_are_fewer_at_once() -> None:
    config = S3Config("b")
    assert [config.parts_sent_at_once(PART_BYTES_MIN, 4), config.parts_sent_at_once(PART_BYTES_MOST, 4)] == [
        4,
        2,
    ]
    assert config.parts_sent_at_once(PART_BYTES_MOST * 9, 4) == 1
