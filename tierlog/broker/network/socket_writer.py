"""Replies on their way to one socket: written at once where the kernel has room, else left to the transport.

Why not the transport alone: uvloop gathers writes until its loop has polled again, which costs a waiting client that
poll, and queues what one ``writev`` could have done.

Rules:

* Nothing goes past bytes that the transport still holds, so replies stay in order.
* Only a plain socket is written to directly: TLS is left to the transport.
* The descriptor is used only while the transport is open; the transport closes it after ``connection_lost`` at the earliest.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios

from tierlog.types import Buffer

IOV_MAX = 1024  # Linux refuses more buffers in one call.


class SocketWriter:
    """Writes to the socket of ``transport``."""

    __slots__ = ("_fd", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._fd = -1
        raw = transport.get_extra_info("socket")
        if raw is not None and transport.get_extra_info("sslcontext") is None:
            self._fd = raw.fileno()

    def write(self, buffers: list[Buffer]) -> int:
        """Writes all of it, now or through the transport later; errors of the connection show at the transport. Returns the
        memory that the transport keeps: a partly sent buffer counts whole, since its rest keeps all of it alive."""
        transport = self._transport
        if self._fd < 0 or transport.is_closing() or transport.get_write_buffer_size():
            transport.writelines(buffers)
            return sum(map(len, buffers))
        try:
            sent = os.writev(self._fd, buffers if len(buffers) <= IOV_MAX else buffers[:IOV_MAX])
        except OSError:
            sent = 0
        if len(buffers) == 1 and sent == len(buffers[0]):
            return 0
        return self.leave(buffers, sent)

    def leave(self, buffers: list[Buffer], sent: int) -> int:
        """Leaves all but the first ``sent`` bytes to the transport, and returns as ``write`` does."""
        rest = unsent(buffers, sent)
        if not rest:
            return 0
        left_bytes = sum(map(len, rest)) - len(rest[0]) + len(buffers[-len(rest)])
        self._transport.writelines(rest)
        return left_bytes

    def unread_bytes(self) -> int:
        """Bytes that the kernel holds and that were not read yet; 0 where it does not tell. One system call."""
        if self._fd < 0 or self._transport.is_closing():
            return 0
        try:
            told = fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4))
        except OSError:
            return 0
        return int.from_bytes(told, sys.byteorder)


def unsent(buffers: list[Buffer], sent: int) -> list[Buffer]:
    """The rest of the buffers after their first ``sent`` bytes."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []
