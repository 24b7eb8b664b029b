"""A store that fails on command: an HTTP proxy before a real S3 server, in a thread of the test's process.

Requests and answers pass byte for byte (the client signed the proxy's own address as ``Host``); only lengths are
looked at. What the proxy does to requests is switched at run time; a fault may be limited to some methods and to the
first so many requests.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

R = TypeVar("R")

HEAD_BYTES_MAX = 64 * 1024
PIECE_BYTES = 64 * 1024
SEEN_MAX = 100_000
CONNECTIONS_MAX = 512
ERROR_CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}


class Mode(Enum):
    """What happens to a request."""

    PASS = "pass"
    REFUSE = "refuse"
    """Nobody listens, and connections are reset."""
    HANG = "hang"
    """The request is taken and never answered, not even after the store has healed."""
    SLOW = "slow"
    """The answer comes ``delay_s`` late."""
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    BROKEN = "500"
    BUSY = "503"
    CUT = "cut"
    """The connection breaks in the middle of the answer's body; answers without a body pass."""
    CORRUPT = "corrupt"
    """A byte in the middle of the answer's body is another one."""
    UNANSWERED = "unanswered"
    """The request is carried out, and the connection breaks before the answer."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``methods`` empty: all; ``path``: part of it as it is without escapes, empty: all; ``limit`` negative: all."""

    mode: Mode = Mode.PASS
    methods: frozenset[str] = frozenset()
    path: str = ""
    limit: int = -1
    delay_s: float = 0.0


@dataclass(slots=True)
class Request:
    """One request that came in, and what was done to it. ``path`` with its query. ``status``: what the client was told, 0 if
    nothing. Bytes are those of the bodies: as they came from the client, and as the server answered. ``ended_ms``: time of
    day, 0 as long as it is under way."""

    at_s: float
    method: str
    path: str
    mode: Mode
    is_copy: bool = False
    status: int = 0
    body_bytes: int = 0
    answer_bytes: int = 0
    ended_ms: int = 0


@dataclass(slots=True)
class _Head:
    """The start of an HTTP message."""

    data: bytes
    first: list[str]
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def body_bytes(self) -> int:
        return int(self.fields.get("content-length", "0"))

    @property
    def is_chunked(self) -> bool:
        return self.fields.get("transfer-encoding", "").lower() == "chunked"


class FaultProxy:
    """``endpoint`` is to be used instead of the server's own. A context manager."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self._upstream = (parts.hostname, parts.port)
        self._port = 0
        self._fault = Fault()
        self._left = -1
        self._listener: socket.socket | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.seen: deque[Request] = deque(maxlen=SEEN_MAX)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._on_loop(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_loop(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def fail(self, mode: Mode, *methods: str, path: str = "", limit: int = -1, delay_s: float = 0.0) -> None:
        """From now on; returns when it holds for every new request."""
        self._on_loop(self._switch(Fault(mode, frozenset(methods), path, limit, delay_s)))

    def heal(self) -> None:
        self.fail(Mode.PASS)

    def failed(self, since_s: float = 0.0) -> list[Request]:
        """The requests that did not simply pass."""
        return [each for each in list(self.seen) if each.mode is not Mode.PASS and each.at_s >= since_s]

    # -- the loop's side

    def _on_loop(self, work: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _switch(self, fault: Fault) -> None:
        self._fault, self._left = fault, fault.limit
        if fault.mode is Mode.REFUSE:
            await self._refuse()
        elif self._listener is None:
            await self._listen()

    async def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._listener.setblocking(False)
        self._port = self._listener.getsockname()[1]
        self._loop.add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        """Asyncio's own server loses connections that it is accepting while it is closed."""
        with suppress(BlockingIOError, ConnectionError):
            connection, _ = listener.accept()
            if len(self._connections) >= CONNECTIONS_MAX:
                connection.close()
                return
            task = self._loop.create_task(self._serve(connection))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            task.add_done_callback(lambda _: connection.close())  # Of a task that never began.

    async def _refuse(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.remove_reader(listener)
            listener.close()
        serving = list(self._connections)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, connection: socket.socket) -> None:
        async with AsyncExitStack() as stack:
            # Either side went, or we refuse by now.
            stack.enter_context(suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError))
            reader, writer = await asyncio.open_connection(sock=connection, limit=HEAD_BYTES_MAX)
            stack.push_async_callback(_abort, writer)
            up_reader, up_writer = await asyncio.open_connection(*self._upstream, limit=HEAD_BYTES_MAX)
            stack.push_async_callback(_abort, up_writer)
            while await self._one(reader, writer, up_reader, up_writer):
                pass

    async def _one(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> bool:
        """One request and its answer; whether the connection goes on."""
        head = await _head(reader)
        asked = Request(time.monotonic(), *head.first[:2], Mode.PASS, "x-amz-copy-source" in head.fields)
        try:
            return await self._carried_out(asked, head, reader, writer, up_reader, up_writer)
        finally:
            asked.ended_ms = time.time_ns() // 1_000_000

    async def _carried_out(
        self,
        asked: Request,
        head: _Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> bool:
        method, path = head.first[0], head.first[1]
        fault = self._fault_of(method, path)
        asked.mode = fault.mode
        asked.body_bytes = head.body_bytes  # As announced, should the server not take it.
        self.seen.append(asked)
        if "expect" in head.fields:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault.mode is Mode.HANG:
            while await reader.read(PIECE_BYTES):
                pass
            return False
        if fault.mode.value.isdigit():
            asked.body_bytes = await _body(head, reader, None)
            asked.status = int(fault.mode.value)
            writer.write(_error(int(fault.mode.value), method))
            await writer.drain()
            return True
        up_writer.write(head.data)
        asked.body_bytes = await _body(head, reader, up_writer)
        answer = await _head(up_reader)
        while answer.first[1] == "100":
            answer = await _head(up_reader)
        if fault.mode is Mode.SLOW:
            await asyncio.sleep(fault.delay_s)
        if fault.mode is Mode.UNANSWERED:
            return False
        asked.status = int(answer.first[1])
        writer.write(answer.data)
        if method == "HEAD" or answer.first[1] in ("204", "304"):
            await writer.drain()
            return True
        if fault.mode is Mode.CUT and answer.body_bytes > 1:
            writer.write(await up_reader.readexactly(answer.body_bytes // 2))
            await writer.drain()
            return False
        if fault.mode is Mode.CORRUPT and answer.body_bytes:
            body = bytearray(await up_reader.readexactly(answer.body_bytes))
            body[len(body) // 2] ^= 0x40
            writer.write(bytes(body))
            await writer.drain()
            return True
        asked.answer_bytes = await _body(answer, up_reader, writer)
        return True

    def _fault_of(self, method: str, path: str) -> Fault:
        fault = self._fault
        if (
            self._left == 0
            or (fault.methods and method not in fault.methods)
            or fault.path not in unquote(path)
        ):
            return Fault()
        self._left -= self._left > 0
        return fault


async def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


async def _head(reader: asyncio.StreamReader) -> _Head:
    data = await reader.readuntil(b"\r\n\r\n")
    first, *lines = data.decode("latin-1").rstrip("\r\n").split("\r\n")
    head = _Head(data, first.split(" ", 2))
    for line in lines:
        name, _, value = line.partition(":")
        head.fields[name.strip().lower()] = value.strip()
    return head


async def _body(head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> int:
    """Moves a body, or drops it; how many bytes it had."""
    moved_bytes = 0

    async def move(count: int) -> None:
        while count:
            piece = await reader.read(min(count, PIECE_BYTES))
            if not piece:
                raise asyncio.IncompleteReadError(b"", count)
            count -= len(piece)
            if writer is not None:
                writer.write(piece)
                await writer.drain()

    if not head.is_chunked:
        await move(head.body_bytes)
        moved_bytes = head.body_bytes
    else:
        size = 1
        while size:
            line = await reader.readuntil(b"\r\n")
            if writer is not None:
                writer.write(line)
            size = int(line.split(b";")[0], 16)
            await move(size + 2)
            moved_bytes += size
    if writer is not None:
        with suppress(ConnectionError):
            await writer.drain()
    return moved_bytes


def _error(status: int, method: str) -> bytes:
    code = ERROR_CODES[status]
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if method == "HEAD" else body)
