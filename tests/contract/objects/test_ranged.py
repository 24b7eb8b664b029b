"""Content that is read in parts while it is sent: what lands, what is read again, what becomes of a reader that fails."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import weakref
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from crc32c import crc32c

from tests.contract.objects.conftest import config_of, gcs_config_of
from tests.servers.fault_proxy import FaultProxy, Mode
from tiering.errors import NotFound
from tiering.objects.gcs.store import GcsObjectStore
from tiering.objects.port import ObjectStore, PutOptions
from tiering.objects.s3.config import PART_BYTES_MIN, S3Config
from tiering.objects.s3.store import S3ObjectStore
from tiering.objects.streams import Ranged

SIZE = 2 * PART_BYTES_MIN + 777
DATA = random.Random(5).randbytes(1 << 16) * (SIZE // (1 << 16) + 1)
OPTIONS = PutOptions(crc32c=crc32c(DATA[:SIZE]), parts_at_once=2)


class Piece(bytearray):
    """One that can be watched."""


class Read(Ranged):
    """``asked``: the ranges, as they were read; ``taken``: the bytes that were asked for before; ``most``: pieces that
    somebody held at once. From ``fails_at`` on there is nothing but ``error``."""

    def __init__(self, error: Exception | None = None, fails_at: int = SIZE) -> None:
        self.error = error
        self.fails_at = fails_at
        self.asked: list[tuple[int, int]] = []
        self.taken: list[int] = []
        self.most = 0
        self._pieces: list[weakref.ref[Piece]] = []

    def read(self, start: int, end: int) -> Iterator[memoryview]:
        self.asked.append((start, end))
        for at in range(start, end, 300_000):
            if self.error is not None and at >= self.fails_at:
                raise self.error
            piece = Piece(DATA[at : min(at + 300_000, end)])
            self._pieces = [each for each in self._pieces if each() is not None] + [weakref.ref(piece)]
            self.most = max(self.most, len(self._pieces))
            yield memoryview(piece)

    async def take(self, size_bytes: int) -> None:
        self.taken.append(size_bytes)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for piece in self.read(0, SIZE):
            yield piece


BACKENDS = ["memory", "directory", "seaweedfs", "gcs"]


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_what_lands_is_what_was_read(bare_store: ObjectStore, backend: str) -> None:
    content = Read()
    await bare_store.put("k", content, size_bytes=SIZE, options=OPTIONS)
    assert bytes((await bare_store.get("k"))[1]) == DATA[:SIZE]
    assert [start for start, _ in sorted(content.asked)] == [
        0,
        *(end for _, end in sorted(content.asked)[:-1]),
    ]
    if backend != "memory":
        assert sum(content.taken) == SIZE
        assert content.most <= 2 * (2 if backend == "seaweedfs" else 1), (
            "the one being sent, and the next one"
        )
    await bare_store.close()


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_an_error_of_the_reader_comes_out_as_it_is(bare_store: ObjectStore) -> None:
    """Nothing is tried again for it, and nothing is left."""
    error = FileNotFoundError(2, "gone", "s.log")
    content = Read(error, fails_at=PART_BYTES_MIN + 1_000_000)
    with pytest.raises(type(error)) as told:
        await bare_store.put("k", content, size_bytes=SIZE, options=OPTIONS)
    assert told.value is error
    assert len(set(content.asked)) == len(content.asked)
    with pytest.raises(NotFound):
        await bare_store.head("k")
    assert await bare_store.list_uploads("") == []
    await bare_store.close()


@pytest.mark.parametrize("backend", ["seaweedfs", "gcs"])
@pytest.mark.parametrize("mode", [Mode.UNANSWERED, Mode.BUSY])
async def test_a_part_that_was_lost_is_read_again(
    backend: str, mode: Mode, prefix: str, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue(f"{backend}_server")
    with FaultProxy(server.endpoint) as proxy:
        store: ObjectStore
        if backend == "gcs":
            store = GcsObjectStore(replace(gcs_config_of(server, prefix), endpoint=proxy.endpoint))
        else:
            store = S3ObjectStore(replace(config_of(server, prefix), endpoint=proxy.endpoint))
        content = Read()
        proxy.fail(mode, "PUT", limit=1)
        await store.put("k", content, size_bytes=SIZE, options=OPTIONS)
        assert bytes((await store.get("k"))[1]) == DATA[:SIZE]
        is_known_there = backend == "gcs" and mode is Mode.UNANSWERED
        assert len(content.asked) == (3 if is_known_there else 4)
        await store.close()


class Slow:
    """An S3 that takes five megabytes a second."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: *(\d+)", head, re.IGNORECASE)
        left, body = int(length[1]) if length else 0, b""
        while left:
            left -= len(await reader.readexactly(min(left, 200_000)))
            await asyncio.sleep(0.04 if left else 0)
        if "uploads=" in head:
            body = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
        elif head.startswith("POST"):
            body = b"<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>"
        writer.write(
            b'HTTP/1.1 200 OK\r\nETag: "1"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n' % len(body)
        )
        writer.write(body)
        await writer.drain()
        writer.close()


async def test_a_part_may_take_longer_than_a_connect() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    async with await asyncio.start_server(Slow().serve, sock=listener):
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = S3Config("b", endpoint=endpoint, path_style=True, access_key_id="a", secret_access_key="b")
        patient = replace(config, part_bytes=2 * PART_BYTES_MIN, connect_timeout_ms=1_000, part_retries=0)
        store = S3ObjectStore(patient)
        contents = (Read(), aiter(Read()))
        puts = [store.put(f"k{at}", each, size_bytes=SIZE) for at, each in enumerate(contents)]
        assert [info.size_bytes for info in await asyncio.gather(*puts)] == [SIZE, SIZE]
        await store.close()


@pytest.mark.parametrize("unsigned", [True, False])
async def test_a_signed_payload_is_read_twice(
    unsigned: bool, prefix: str, request: pytest.FixtureRequest
) -> None:
    config = config_of(request.getfixturevalue("seaweedfs_server"), prefix)
    store = S3ObjectStore(replace(config, unsigned_payload=unsigned))
    content = Read()
    await store.put("k", content, size_bytes=SIZE, options=OPTIONS)
    assert bytes((await store.get("k"))[1]) == DATA[:SIZE]
    assert len(content.asked) == (3 if unsigned else 6)
    await store.close()
