"""Connections to other brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from tierlog.broker.network.peer_client import PeerClient
from tierlog.broker.network.peer_connection import PeerConnection, PeerUnavailable
from tierlog.errors import MalformedMessage
from tierlog.metadata.records import Endpoint
from tierlog.wire.codec import encode_bytes
from tierlog.wire.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from tierlog.wire.schema import Message

VERSION = 5


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_is_sent_on_a_connection_that_has_ended_is_lost_and_no_error(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Its owner hears of the end at its next turn only, and may have something to ask before."""

    async def send() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()[:2]
            _, connection = await loop.create_connection(
                lambda: PeerConnection(loop, 1 << 20, lambda frame: None), host, port
            )
            connection.close()
            connection.send([b"lost"])
            await asyncio.sleep(0)
            connection.send([b"lost", b"too"])
            with pytest.raises(PeerUnavailable):
                await connection.closed

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(send())


async def answers_of(frames: list[bytes]) -> Message:
    """What a call makes of a peer that answers with these bytes, and then hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        writer.writelines(frames)
        writer.close()

    client = PeerClient("test", 1 << 10)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        await client.connect(Endpoint("INTERNAL", host, port))
        try:
            return await client.call(ListGroupsRequest(), VERSION)
        finally:
            client.close()


def framed(correlation_id: int, body: bytes) -> bytes:
    content = correlation_id.to_bytes(4, "big") + b"\0" + body
    return len(content).to_bytes(4, "big") + content


async def test_a_call_gets_its_answer() -> None:
    body = encode_bytes(ListGroupsResponse(error_code=15), VERSION)
    assert await answers_of([framed(1, body)]) == ListGroupsResponse(error_code=15)


@pytest.mark.parametrize(
    "bad",
    [
        framed(2, encode_bytes(ListGroupsResponse(), VERSION)),  # the answer of another call
        framed(1, b""),
        framed(1, encode_bytes(ListGroupsResponse(), VERSION) + b"more"),
        b"\0\0\0\1\0",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x0ahalf",
        b"",
    ],
)
async def test_a_call_that_is_answered_badly_is_an_error(bad: bytes) -> None:
    with pytest.raises((PeerUnavailable, MalformedMessage)):
        await answers_of([bad])
