"""One connection to another broker: a request out, its answer in, one at a time.

The answer is handed over as a view into the receive buffer, valid within that call only: records go from there into the
log without a copy. Any failure ends the connection; ``closed`` tells why.

Bounds: one answer of ``max_frame_bytes``; each connection has a buffer of its own and frees it at its end.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from tierlog.broker.network.frames import FrameBuffer, ReceiveMemory
from tierlog.broker.network.socket_writer import SocketWriter
from tierlog.errors import TierlogError
from tierlog.types import Buffer

RECEIVE_MEMORY_BYTES = 2**31


class PeerUnavailable(TierlogError):
    """The other broker does not answer, or not as expected: connect again later."""


class PeerConnection(asyncio.BufferedProtocol):
    """``on_answer(frame)`` may raise: that ends the connection too."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, max_frame_bytes: int, on_answer: Callable[[memoryview], None]
    ) -> None:
        self.closed: asyncio.Future[None] = loop.create_future()
        self._frames = FrameBuffer(ReceiveMemory(RECEIVE_MEMORY_BYTES), max_frame_bytes)
        self._on_answer = on_answer
        self._transport: asyncio.Transport | None = None
        self._writer: SocketWriter | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._writer = SocketWriter(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._frames.close()
        self._end(PeerUnavailable("the connection was closed" if exc is None else f"{exc}"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._frames.writable()

    def buffer_updated(self, nbytes: int) -> None:
        frames = self._frames
        frames.received(nbytes)
        try:
            while not self.closed.done() and frames.held_bytes and (frame := frames.next_frame()) is not None:
                self._on_answer(frame)
        except Exception as error:
            self._end(error)
        else:
            if not self.closed.done():
                frames.settle()

    def eof_received(self) -> bool:
        return False

    def send(self, buffers: list[Buffer]) -> None:
        """Drops the request where the connection has ended: the owner may learn of that only in a later turn of the loop."""
        assert self._writer is not None
        if not self.closed.done():
            self._writer.write(buffers)

    def close(self) -> None:
        self._end(PeerUnavailable("closed here"))

    def _end(self, why: BaseException) -> None:
        if not self.closed.done():
            self.closed.set_exception(why)
            # Marks the error as retrieved: nobody may be left to await it.
            self.closed.exception()
        if self._transport is not None:
            self._transport.close()
