"""What S3 servers answer on bad days, from a server that says exactly what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.contract.objects.conftest import config_of
from tests.servers.processes import S3Server
from tiering.errors import (
    AccessDenied,
    InvalidRange,
    Misconfigured,
    NotFound,
    ObjectStoreError,
    PreconditionFailed,
    StoreFull,
    Throttled,
    Timeout,
    Unavailable,
)
from tiering.objects.retrying import RetryingStore, RetryPolicy
from tiering.objects.s3.store import S3ObjectStore


class Scripted:
    """Gives the answers one by one, and the last one for ever."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.request_count = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next((line for line in head.split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        await reader.readexactly(int(length.split(b":")[1]))
        self.request_count += 1
        writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def scripted(*answers: bytes) -> AsyncIterator[tuple[Scripted, S3ObjectStore]]:
    script = Scripted(*answers)
    async with await asyncio.start_server(script.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        where = S3Server("scripted", f"http://127.0.0.1:{port}", "id", "secret", "us-east-1", "bucket")
        yield script, S3ObjectStore(replace(config_of(where), part_retries=0))


def answer(status: int, code: str = "") -> bytes:
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode() if code else b""
    return _http(status, body)


def _http(status: int, body: bytes, more: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {size}\r\nConnection: close\r\n{more}\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (answer(503, "SlowDown"), Throttled),
        (answer(503), Throttled),
        (answer(429, "TooManyRequests"), Throttled),
        (answer(409, "ConditionalRequestConflict"), Throttled),
        (answer(500, "InternalError"), Unavailable),
        (answer(502), Unavailable),
        (answer(504), Timeout),
        (answer(400, "RequestTimeout"), Timeout),
        (answer(403, "RequestTimeTooSkewed"), AccessDenied),
        (answer(400, "ExpiredToken"), AccessDenied),
        (answer(401), AccessDenied),
        (answer(404, "NoSuchBucket"), Misconfigured),
        (answer(301, "PermanentRedirect"), Misconfigured),
        (answer(400, "AuthorizationHeaderMalformed"), Misconfigured),
        (answer(507, "XMinioStorageFull"), StoreFull),
        (answer(400, "SomethingNew"), ObjectStoreError),
        (b"", Unavailable),
        (b"nonsense\r\n\r\n", Unavailable),
    ],
)
async def test_errors_of_every_verb(given: bytes, kind: type[ObjectStoreError]) -> None:
    async with scripted(given) as (_, store):
        for call in (
            store.put("k", b"x", size_bytes=1),
            store.put("k", b"x", size_bytes=1, if_absent=True),
            store.get("k"),
            store.get_range("k", 0, 1),
        ):
            with pytest.raises(ObjectStoreError) as caught:
                await call  # type: ignore[misc]
            assert type(caught.value) is kind
            assert caught.value.key == "k"


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (answer(412, "PreconditionFailed"), PreconditionFailed),
        (answer(404, "NoSuchKey"), PreconditionFailed),
    ],
)
async def test_lost_conditions(given: bytes, kind: type[ObjectStoreError]) -> None:
    async with scripted(given) as (_, store):
        with pytest.raises(kind):
            await store.put_if_match("k", b"x", "etag")


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (answer(404, "NoSuchKey"), NotFound),
        (answer(416, "InvalidRange"), InvalidRange),
        (_http(206, b"abc", "Content-Range: bytes 0-9/10\r\n", length=10), Unavailable),
        (_http(206, b"abc", "Content-Range: bytes 0-2/3\r\n"), InvalidRange),
        (_http(200, b"abcdefghij"), Unavailable),
    ],
)
async def test_ranges_that_are_not_what_was_asked(given: bytes, kind: type[ObjectStoreError]) -> None:
    async with scripted(given) as (_, store):
        with pytest.raises(kind):
            await store.get_range("k", 0, 10)


async def test_a_burst_of_503_is_waited_out() -> None:
    fine = _http(206, b"0123456789", 'Content-Range: bytes 0-9/10\r\nETag: "e"\r\n')
    fine = fine.replace(b"Connection", b"Last-Modified: Mon, 23 Nov 2026 08:00:00 GMT\r\nConnection")
    async with scripted(answer(503, "SlowDown"), answer(500), b"", fine) as (script, bare):
        store = RetryingStore(bare, RetryPolicy(first_pause_s=0.001, pause_max_s=0.002))
        assert bytes(await store.get_range("k", 0, 10)) == b"0123456789"
        assert (script.request_count, store.retry_count) == (4, 3)
