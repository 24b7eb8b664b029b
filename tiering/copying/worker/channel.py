"""One end of the socket between a broker and its copy worker: messages in, messages out."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Self

from tiering.copying.worker.messages import PREFIX, Header, Message, check_prefix, frame, header_of


class Channel:
    """Bounded by what its users have under way: a few small messages per job, and a copy's body."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._has_ended = False

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """``end``: of a connected pair, and the channel's from now on."""
        return cls(*await asyncio.open_connection(sock=end))

    async def receive(self) -> Message | None:
        """The next message; None when the other side has ended. Raises ``BadMessage``; only as much memory is taken as a
        message within the bounds needs."""
        try:
            header_bytes, body_bytes = check_prefix(await self._reader.readexactly(PREFIX.size))
            header = header_of(await self._reader.readexactly(header_bytes))
            return Message(header, await self._reader.readexactly(body_bytes) if body_bytes else b"")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def say(self, what: str, **fields: object) -> None:
        """A small message. To a side that has ended it says nothing, and ``receive`` tells."""
        header: Header = {"say": what, **fields}
        self.send(frame(header))

    def send(self, data: bytes) -> None:
        """A frame."""
        if not self._has_ended and not self._writer.is_closing():
            self._writer.write(data)

    def end(self) -> None:
        """Says nothing more, and still hears the other side."""
        if not self._has_ended and not self._writer.is_closing():
            self._writer.write_eof()
        self._has_ended = True

    async def close_heard(self) -> None:
        """Once all that was said has been taken, or nobody takes it any more."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def close(self) -> None:
        """The other side reads its end."""
        self._writer.close()
