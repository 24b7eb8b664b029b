"""SocketWriter on real sockets: everything arrives, once and in order, however little the kernel takes."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tierlog.broker.network.socket_writer import IOV_MAX, SocketWriter, unsent
from tierlog.types import Buffer


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """A transport with a small send buffer, and the peer's socket."""
    ours, peer = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    ours.setblocking(False)
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
    with peer:
        yield transport, peer
        transport.abort()


async def received(peer: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        data += await asyncio.get_running_loop().sock_recv(peer, 1 << 16)
    return bytes(data)


async def test_what_fits_is_there_before_the_loop_turns() -> None:
    async with connected() as (transport, peer):
        SocketWriter(transport).write([b"ab", memoryview(b"cd")])
        assert peer.recv(100) == b"abcd"


async def test_all_arrives_in_order_through_a_socket_that_is_full() -> None:
    rng = random.Random(3)
    async with connected() as (transport, peer):
        writer = SocketWriter(transport)
        expected = bytearray()
        for _ in range(200):
            buffers: list[Buffer] = [
                rng.randbytes(rng.choice((1, 60, 3000, 20_000))) for _ in range(rng.randrange(1, 6))
            ]
            for each in buffers:
                expected += each
            writer.write(buffers)
        assert transport.get_write_buffer_size() > 0
        assert await received(peer, len(expected)) == bytes(expected)
        assert transport.get_write_buffer_size() == 0
        writer.write([b"at once again"])
        assert peer.recv(100) == b"at once again"


async def test_more_buffers_than_one_call_takes() -> None:
    async with connected() as (transport, peer):
        buffers: list[Buffer] = [bytes([n % 251]) for n in range(2 * IOV_MAX + 7)]
        SocketWriter(transport).write(buffers)
        assert await received(peer, len(buffers)) == b"".join(buffers)


async def test_nothing_is_written_to_a_descriptor_that_is_being_closed() -> None:
    async with connected() as (transport, peer):
        writer = SocketWriter(transport)
        transport.abort()
        writer.write([b"too late"])
        await asyncio.sleep(0)
        assert peer.recv(100) == b""


async def test_a_peer_that_is_gone_shows_at_the_transport() -> None:
    async with connected() as (transport, peer):
        writer = SocketWriter(transport)
        peer.close()
        writer.write([b"nobody listens"])
        writer.write([b"nor now"])
        while not transport.is_closing():
            await asyncio.sleep(0)


async def test_tls_is_left_to_the_transport() -> None:
    class Encrypted(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__({"socket": socket.socket(), "sslcontext": ssl.create_default_context()})
            self.written: list[Buffer] = []

        def writelines(self, list_of_data: object) -> None:
            self.written.extend(list_of_data)  # type: ignore[call-overload]

    transport = Encrypted()
    SocketWriter(transport).write([b"secret"])
    assert transport.written == [b"secret"]
    transport.get_extra_info("socket").close()


@pytest.mark.parametrize(("sent", "left"), [(0, b"abcdef"), (1, b"bcdef"), (2, b"cdef"), (5, b"f"), (6, b"")])
def test_unsent(sent: int, left: bytes) -> None:
    assert b"".join(unsent([b"ab", b"", b"cd", b"ef"], sent)) == left
