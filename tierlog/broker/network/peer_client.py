"""Calls to another broker: one connection, one request at a time, each answer whole.

For rare calls: each answer is copied. Replica fetchers use ``peer_connection`` directly, since records must not be copied.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tierlog.broker.network.peer_connection import PeerConnection
from tierlog.errors import MalformedMessage
from tierlog.metadata.records import Endpoint
from tierlog.wire.codec import decode_exact, encode
from tierlog.wire.framing import decode_response_header, encode_request
from tierlog.wire.registry import APIS
from tierlog.wire.schema import Message


class PeerClient:
    """One connection. Whoever calls ``connect`` calls ``close``. Calls have no timeout: the caller sets one."""

    def __init__(self, name: str, max_frame_bytes: int) -> None:
        """``name``: the client id of the requests. ``max_frame_bytes``: the longest answer."""
        self._name = name
        self._max_frame_bytes = max_frame_bytes
        self._correlation_id = 0
        self._connection: PeerConnection | None = None
        self._answer: asyncio.Future[bytes] | None = None

    async def connect(self, endpoint: Endpoint) -> None:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(
            lambda: PeerConnection(loop, self._max_frame_bytes, self._on_answer), endpoint.host, endpoint.port
        )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def call(self, request: Message, version: int) -> Message:
        """The decoded answer. Raises PeerUnavailable, MalformedMessage and OSError. Then the connection cannot be used
        again, and it is unknown whether the other broker carried out the request."""
        connection, key = self._connection, request.API_KEY
        assert connection is not None
        assert key is not None
        self._correlation_id += 1
        self._answer = asyncio.get_running_loop().create_future()
        connection.send(
            encode_request(key, version, self._correlation_id, self._name, encode(request, version))
        )
        waiting: set[asyncio.Future[Any]] = {self._answer, connection.closed}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not self._answer.done():
            connection.closed.result()
        frame = self._answer.result()
        correlation_id, offset = decode_response_header(key, version, frame)
        if correlation_id != self._correlation_id:
            raise MalformedMessage("unexpected correlation id")
        return decode_exact(APIS[key].response, version, frame, offset)

    def _on_answer(self, frame: memoryview) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(bytes(frame))
