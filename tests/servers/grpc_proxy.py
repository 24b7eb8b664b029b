"""A TCP proxy before a gRPC server that cuts the connection around one chosen request.

It follows HTTP/2's frames without decoding headers: a request is recognised by bytes of its message, its answer by the
first HEADERS frame on the same stream.
"""

from __future__ import annotations

import asyncio
from enum import Enum

_PREFACE_BYTES = 24
_HEAD_BYTES = 9
_DATA, _HEADERS = 0, 1


class Cut(Enum):
    BEFORE = "the server never gets the request"
    AFTER = "the server has answered, and the answer is dropped"


class GrpcProxy:
    """``await start()``; use ``address`` instead of the server's. In the loop of the test."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._port = 0
        self._server: asyncio.Server | None = None
        self._cut: Cut | None = None
        self._marker = b""
        self._stream = -1
        self._transports: set[asyncio.WriteTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.cuts = 0

    async def start(self) -> None:
        """Also again, after ``refuse``, on the same port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, reuse_address=True)
        self._port = self._server.sockets[0].getsockname()[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def refuse(self) -> None:
        """Nobody listens any more, and every connection is reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop_all()

    def cut_next(self, marker: bytes, cut: Cut) -> None:
        """At the next request whose message holds ``marker``."""
        self._marker, self._cut, self._stream = marker, cut, -1

    def drop_all(self) -> None:
        """Resets every connection."""
        for transport in tuple(self._transports):
            transport.abort()

    async def close(self) -> None:
        self.refuse()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_writer: asyncio.StreamWriter | None = None
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            self._transports |= {writer.transport, up_writer.transport}
            up_writer.write(await reader.readexactly(_PREFACE_BYTES))
            async with asyncio.TaskGroup() as both:
                both.create_task(self._relay(reader, up_writer, is_request=True))
                both.create_task(self._relay(up_reader, writer, is_request=False))
        except* (OSError, EOFError, asyncio.CancelledError):
            pass  # either side went, or we cut
        finally:
            for each in (writer, up_writer):
                if each is not None:
                    each.transport.abort()
                    self._transports.discard(each.transport)
            self._tasks.discard(task)

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_request: bool
    ) -> None:
        while True:
            head = await reader.readexactly(_HEAD_BYTES)
            body = await reader.readexactly(int.from_bytes(head[:3]))
            kind, stream = head[3], int.from_bytes(head[5:]) & 0x7FFF_FFFF
            if self._is_cut_here(kind, stream, body, is_request=is_request):
                self._cut = None
                self.cuts += 1
                raise ConnectionAbortedError("cut")
            writer.write(head + body)
            await writer.drain()

    def _is_cut_here(self, kind: int, stream: int, body: bytes, *, is_request: bool) -> bool:
        if self._cut is None:
            return False
        if is_request:
            if kind == _DATA and self._marker in body:
                self._stream = stream
                return self._cut is Cut.BEFORE
            return False
        return kind == _HEADERS and stream == self._stream
