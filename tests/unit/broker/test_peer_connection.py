"""Connections to other brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from tierlog.broker.network.peer_connection import PeerConnection, PeerUnavailable


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
