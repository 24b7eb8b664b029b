"""From a frame to a handler and back: the one place where requests are named, versions checked, replies framed.

Rules:

* the table of rows is the only list of served APIs: ApiVersions is derived from it;
* each row declares the operation and the resource for the authorizer;
* a message is decoded from a private copy of the frame, but for ``in_place`` rows, whose handlers use the receive
  buffer within their own synchronous step and keep nothing of it;
* only ``in_place`` rows (Produce) may fill ``socket.request.max.bytes``; all others are small or wrong;
* throttle time is filled in here and nowhere else, after the handler, from what the quotas say;
* an unknown API, an unserved version, or a body that does not decode closes the connection; only ApiVersions is
  answered in version 0 with UNSUPPORTED_VERSION and its own range (KIP-511).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from tierlog.broker.context import RequestContext
from tierlog.broker.late_reply import LateReply
from tierlog.errors import ErrorCode, MalformedMessage
from tierlog.types import Buffer
from tierlog.wire.codec import decode, encode
from tierlog.wire.framing import API_VERSIONS_KEY, decode_request_header, encode_response
from tierlog.wire.messages.api_versions import ApiVersion, ApiVersionsResponse
from tierlog.wire.registry import APIS, ApiSpec
from tierlog.wire.schema import Message

if TYPE_CHECKING:
    from tierlog.broker.connection import Connection
    from tierlog.broker.services import Services

MAX_CONTROL_REQUEST_BYTES = 8 * 1024 * 1024

Later = Awaitable["Message | None"] | LateReply[Any]
Handler = Callable[["Services", RequestContext, Any], "Message | Later | None"]


class Operation(Enum):
    """What a principal must be allowed to do; Kafka's ACL operations."""

    NONE = "none"
    READ = "READ"
    WRITE = "WRITE"
    CREATE = "CREATE"
    DELETE = "DELETE"
    ALTER = "ALTER"
    DESCRIBE = "DESCRIBE"
    CLUSTER_ACTION = "CLUSTER_ACTION"
    DESCRIBE_CONFIGS = "DESCRIBE_CONFIGS"
    ALTER_CONFIGS = "ALTER_CONFIGS"
    IDEMPOTENT_WRITE = "IDEMPOTENT_WRITE"


class Resource(Enum):
    NONE = "none"
    TOPIC = "TOPIC"
    GROUP = "GROUP"
    CLUSTER = "CLUSTER"


@dataclass(frozen=True, slots=True)
class Row:
    """One served API. ``pipelined``: later requests of the connection need not wait for its reply. ``small``: its reply is
    small, or it asks for the memory of its reply itself."""

    spec: ApiSpec
    handle: Handler
    operation: Operation
    resource: Resource
    in_place: bool = False
    pipelined: bool = False
    small: bool = False


class Quotas(Protocol):
    """How long a client is to be held back after this request."""

    def throttle_ms(self, ctx: RequestContext, request_bytes: int, response_bytes: int) -> int: ...


class Recorder(Protocol):
    """Per-API counters, as telemetry.requests keeps them."""

    def record(self, version: int, seconds: float) -> None: ...


class Dispatcher:
    """Serves the rows of one broker."""

    def __init__(
        self, services: Services, rows: Mapping[int, Row], recorders: Mapping[int, Recorder]
    ) -> None:
        self._services = services
        self._rows = dict(rows)
        self._recorders = dict(recorders)
        self._loop = services.loop
        self._tasks: set[asyncio.Task[Any]] = set()

    def waits_by_itself(self, frame: memoryview) -> bool:
        """Whether this request may be dispatched though there is no memory for replies."""
        row = self._rows.get(int.from_bytes(frame[:2], "big"))
        return row is None or row.small

    def dispatch(self, connection: Connection, frame: memoryview) -> None:
        """One whole request. Raises MalformedMessage; anything else a handler raises is a bug.

        Bytes behind the message are ignored, as Kafka does: librdkafka 2.16 sends some behind Metadata v13.
        """
        arrival_s = self._loop.time()
        header = decode_request_header(frame)
        key, version, correlation_id, client_id, body_offset, spec, supported = header
        row = self._rows.get(key)
        if row is None or not supported:
            self._refuse(connection, key, version, correlation_id, spec)
            return
        assert spec is not None
        if row.in_place:
            request, _ = decode(spec.request, version, frame, body_offset)
        elif len(frame) > MAX_CONTROL_REQUEST_BYTES:
            raise MalformedMessage(
                f"{spec.name} of {len(frame)} bytes; at most {MAX_CONTROL_REQUEST_BYTES} are allowed"
            )
        else:
            request, _ = decode(spec.request, version, bytes(frame), body_offset)
        ctx = RequestContext(
            key,
            version,
            correlation_id,
            client_id,
            connection.listener.name,
            connection.peer_host,
            arrival_s,
            connection,
        )
        response = row.handle(self._services, ctx, request)
        if isinstance(response, Message):
            connection.reply(self._finish(connection, ctx, len(frame), response))
        elif response is not None:
            self._reply_later(connection, row, ctx, len(frame), response)
        else:
            self._recorders[key].record(version, self._loop.time() - arrival_s)

    def _reply_later(
        self,
        connection: Connection,
        row: Row,
        ctx: RequestContext,
        size: int,
        response: Later,
    ) -> None:
        future: asyncio.Future[Message | None] | LateReply[Any]
        if isinstance(response, asyncio.Future | LateReply):
            future = response
        else:
            task = self._loop.create_task(_await(response))
            # The loop keeps only weak references to tasks.
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            future = task
        connection.reply_later(row, future, lambda done: self._finish(connection, ctx, size, done))

    def _finish(
        self, connection: Connection, ctx: RequestContext, request_bytes: int, response: Message
    ) -> list[Buffer]:
        buffers = encode_response(
            ctx.api_key, ctx.api_version, ctx.correlation_id, encode(response, ctx.api_version)
        )
        quotas = self._services.quotas
        if quotas is not None:
            throttle_ms = quotas.throttle_ms(ctx, request_bytes, sum(map(len, buffers)))
            if throttle_ms > 0 and hasattr(response, "throttle_time_ms"):
                response.throttle_time_ms = throttle_ms
                buffers = encode_response(
                    ctx.api_key, ctx.api_version, ctx.correlation_id, encode(response, ctx.api_version)
                )
                connection.mute_until(self._loop.time() + throttle_ms / 1000)
        self._recorders[ctx.api_key].record(ctx.api_version, self._loop.time() - ctx.arrival_s)
        return buffers

    def _refuse(
        self, connection: Connection, key: int, version: int, correlation_id: int, spec: ApiSpec | None
    ) -> None:
        if key != API_VERSIONS_KEY:
            name = spec.name if spec is not None else "unknown API"
            raise MalformedMessage(f"{name} (key {key}) version {version} is not served")
        assert spec is not None
        own = ApiVersion(api_key=key, min_version=spec.min_version, max_version=spec.max_version)
        response = ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=[own])
        connection.reply(encode_response(key, 0, correlation_id, encode(response, 0)))

    async def cancel(self) -> None:
        """Ends handlers that are still at work; for a stop."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _await(response: Awaitable[Message | None]) -> Message | None:
    return await response


def row(
    key: int,
    handle: Handler,
    operation: Operation,
    resource: Resource,
    *,
    in_place: bool = False,
    pipelined: bool = False,
    small: bool = False,
) -> Row:
    return Row(APIS[key], handle, operation, resource, in_place, pipelined, small)
