"""From a frame to a handler and back: the one place where requests are named, versions checked, replies framed.

Rules:

* the table of rows is the only list of served APIs: ApiVersions is derived from it;
* each row declares the operation and the resource for the authorizer;
* a message is decoded from a private copy of the frame, but for ``in_place`` rows, whose handlers use the receive
  buffer within their own synchronous step and keep nothing of it;
* only ``in_place`` rows (Produce) may use all of ``socket.request.max.bytes``; any other request is refused above
  ``MAX_CONTROL_REQUEST_BYTES``;
* throttle time is filled in here and nowhere else, after the handler, from what the quotas say;
* what may be long (many bytes, many items, a long answer) is decoded, handled and encoded in slices;
* an unknown API, an unserved version, or a body that does not decode closes the connection; only ApiVersions is
  answered in version 0 with UNSUPPORTED_VERSION and its own range (KIP-511).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Generator, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any, Literal

from tierlog.broker.network.context import RequestContext, context_of
from tierlog.broker.network.joining import MANY, joined
from tierlog.broker.network.kept_replies import KeptReplies
from tierlog.broker.network.places import WaitingReply
from tierlog.broker.network.ports import Asker, Hot
from tierlog.broker.network.rows import WIDE, Later, Quotas, Recorder, Row
from tierlog.broker.work.background import Background
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.broker.work.freeing import free, long_lists
from tierlog.broker.work.large_work import LargeWork
from tierlog.broker.work.slices import Slices, Steps, Unfinished
from tierlog.errors import ErrorCode, MalformedMessage
from tierlog.log.append import AppendResult
from tierlog.types import Buffer
from tierlog.wire.codec import decode, decode_in_steps, encode, encode_in_steps
from tierlog.wire.framing import API_VERSIONS_KEY, decode_request_header, encode_response
from tierlog.wire.messages.api_versions import ApiVersion, ApiVersionsResponse
from tierlog.wire.messages.fetch import FetchResponse
from tierlog.wire.messages.offset_commit import OffsetCommitResponse
from tierlog.wire.messages.produce import ProduceResponse
from tierlog.wire.registry import ApiSpec
from tierlog.wire.schema import Message

MAX_CONTROL_REQUEST_BYTES = 8 * 1024 * 1024
# A frame of at most this size is decoded in a millisecond, whatever it holds.
SHORT_FRAME_BYTES = 4096


class Dispatcher:
    """Serves the rows of one broker."""

    __slots__ = ("_background", "_loop", "_quotas", "_recorders", "_rows", "_slices", "_tasks", "hot")

    def __init__(
        self,
        rows: Mapping[int, Row],
        recorders: Mapping[int, Recorder],
        *,
        loop: asyncio.AbstractEventLoop,
        slices: Slices,
        background: Background,
        quotas: Quotas | None = None,
        hot: Hot | None = None,
    ) -> None:
        """``rows``: bound to their broker. ``hot``: serves ordinary requests of one API as a whole; see ``Hot``."""
        self._rows = dict(rows)
        self._recorders = dict(recorders)
        self._loop = loop
        self._slices = slices
        self._background = background
        self._quotas = quotas
        self.hot = hot
        self._tasks: set[asyncio.Task[Any]] = set()

    def waits_by_itself(self, frame: memoryview) -> bool:
        """Whether this request may be dispatched though there is no memory for replies."""
        row = self._rows.get(int.from_bytes(frame[:2], "big"))
        return row is None or row.small

    def has_time(self) -> bool:
        return self._slices.has_time()

    def dispatch(self, connection: Asker, frame: memoryview) -> None:
        """Handles one whole request. Raises MalformedMessage; anything else a handler raises is a bug.

        Bytes after the message are ignored, as in Kafka: librdkafka 2.16 sends some after Metadata v13.
        """
        arrival_s = self._loop.time()
        appended = self._appended(connection, frame, arrival_s)
        if appended is True:
            return
        started_s = perf_counter()
        header = decode_request_header(frame)
        key, version, correlation_id, client_id, body_offset, spec, supported = header
        row = self._rows.get(key)
        if row is None or not supported:
            self._refuse(connection, key, version, correlation_id, spec)
            return
        assert spec is not None
        size = len(frame)
        if size > MAX_CONTROL_REQUEST_BYTES and not row.in_place:
            raise MalformedMessage(
                f"{spec.name} of {size} bytes; at most {MAX_CONTROL_REQUEST_BYTES} are allowed"
            )
        ctx = context_of(connection, key, version, correlation_id, client_id, arrival_s)
        if appended is not None:
            ctx.appended = deque(appended)
            request, _ = decode(spec.request, version, frame, body_offset)
            self._answer(connection, row, ctx, size, row.handle(ctx, request))
        elif size > SHORT_FRAME_BYTES:
            self._dispatch_long(connection, row, ctx, frame, body_offset)
        elif row.kept is None or not self._reply_kept(connection, row.kept, ctx, frame, body_offset):
            data = frame if row.in_place else bytes(frame)
            request, _ = decode(spec.request, version, data, body_offset)
            response = row.handle(ctx, request)
            if not isinstance(response, Generator):
                self._answer(connection, row, ctx, size, response)
            elif row.in_place:
                self._copied(connection, row, ctx, frame, body_offset)
            else:
                self._in_steps(connection, row, ctx, size, self._completed(ctx, size, response))
        self._recorders[key].held(perf_counter() - started_s)

    def _appended(
        self, connection: Asker, frame: memoryview, arrival_s: float
    ) -> Literal[True] | list[AppendResult] | None:
        """What the kernel has done of this request, in an earlier turn of the connection or now."""
        if connection.appended is not None:
            appended, connection.appended = connection.appended, None
            return appended
        return None if self.hot is None else self.hot.serve(connection, frame, arrival_s)

    def _reply_kept(
        self, connection: Asker, kept: KeptReplies, ctx: RequestContext, frame: memoryview, body_offset: int
    ) -> bool:
        """Replies as to another who has asked the same, if that reply was kept; else sees that this one's is."""
        key = ctx.api_version, ctx.listener, bytes(frame[body_offset:])
        body = kept.find(key)
        if body is None:
            ctx.keep = kept.keeper(key)
            return False
        buffers = encode_response(ctx.api_key, ctx.api_version, ctx.correlation_id, body)
        throttle_ms = 0 if self._quotas is None else self._quotas.throttle_ms(ctx, len(frame), buffers)
        if throttle_ms > 0 and (body := kept.find(key, throttle_ms)) is not None:
            buffers = encode_response(ctx.api_key, ctx.api_version, ctx.correlation_id, body)
            connection.mute_until(self._loop.time() + throttle_ms / 1000)
        self._recorders[ctx.api_key].record(ctx.api_version, self._loop.time() - ctx.arrival_s)
        connection.reply(buffers)
        return True

    def _dispatch_long(
        self, connection: Asker, row: Row, ctx: RequestContext, frame: memoryview, body_offset: int
    ) -> None:
        """In slices, since many bytes may be many items."""
        ctx.large_work = LargeWork()
        if not row.in_place:
            size = len(frame)
            self._in_steps(connection, row, ctx, size, self._served(row, ctx, bytes(frame), body_offset))
            return
        decoded = self._slices.at_once(decode_in_steps(row.spec.request, ctx.api_version, frame, body_offset))
        if not isinstance(decoded, Unfinished):
            response = row.handle(ctx, decoded[0])
            if not isinstance(response, Generator):
                self._answer(connection, row, ctx, len(frame), response)
                return
        self._copied(connection, row, ctx, frame, body_offset)

    def _copied(
        self, connection: Asker, row: Row, ctx: RequestContext, frame: memoryview, body_offset: int
    ) -> None:
        """Starts an ``in_place`` request again on a copy, since its work would outlive the receive buffer."""
        steps = self._served(row, ctx, bytearray(frame), body_offset)
        work = self._slices.later(steps, self._recorders[ctx.api_key].held)
        # Later requests of the connection have to wait, or their batches would be appended first.
        self._reply_later(connection, replace(row, pipelined=False), ctx, len(frame), work)

    def _in_steps(
        self, connection: Asker, row: Row, ctx: RequestContext, size: int, steps: Steps[Any]
    ) -> None:
        found = self._slices.at_once(steps)
        if isinstance(found, Unfinished):
            ctx.large_work = ctx.large_work or LargeWork()
            found = self._slices.later(steps, self._recorders[ctx.api_key].held)
            row = replace(row, pipelined=False)  # no later request overtakes it
        if isinstance(found, list):
            connection.reply(found)
        elif isinstance(found, WaitingReply):
            connection.keep_place(found)
        elif found is not None:
            self._reply_later(connection, row, ctx, size, found)

    def _served(self, row: Row, ctx: RequestContext, data: Buffer, body_offset: int) -> Steps[Any]:
        """The steps from a request's bytes to the buffers of its reply, or to what the reply waits for."""
        request, _ = yield from decode_in_steps(row.spec.request, ctx.api_version, data, body_offset)
        answer: list[Any] = [row.handle(ctx, request)]
        if isinstance(answer[0], Generator):
            answer = [(yield from answer.pop())]
        # Once the answer is there, nobody works on the request any more.
        is_over = ctx.large_work is not None and isinstance(answer[0], Message)
        lists = (yield from long_lists(request)) if is_over else []
        del request
        yield from free(lists)
        return (yield from self._written(ctx, len(data), answer))

    def _completed(self, ctx: RequestContext, size: int, steps: Steps[Any]) -> Steps[Any]:
        return (yield from self._written(ctx, size, [(yield from steps)]))

    def _written(self, ctx: RequestContext, size: int, answer: list[Any]) -> Steps[Any]:
        """``answer`` has one element, which is taken out, so that the caller does not keep a long answer alive."""
        if isinstance(answer[0], Message):
            return (yield from self._finish_in_steps(ctx, size, answer))
        if answer[0] is None:
            self._recorders[ctx.api_key].record(ctx.api_version, self._loop.time() - ctx.arrival_s)
        return answer[0]

    def _answer(self, connection: Asker, row: Row, ctx: RequestContext, size: int, response: Any) -> None:
        if isinstance(response, Message):
            found = self.finish(ctx, size, response)
            if isinstance(found, list):
                connection.reply(found)
            else:
                self._reply_later(connection, row, ctx, size, found)
        elif isinstance(response, WaitingReply):
            connection.keep_place(response)
        elif response is not None:
            self._reply_later(connection, row, ctx, size, response)
        else:
            self._recorders[ctx.api_key].record(ctx.api_version, self._loop.time() - ctx.arrival_s)

    def _reply_later(
        self,
        connection: Asker,
        row: Row,
        ctx: RequestContext,
        size: int,
        response: Later,
    ) -> None:
        connection.reply_later(
            row, self._future(row.spec.name, response), lambda done: self.finish(ctx, size, done)
        )

    def _future(self, name: str, response: Later) -> asyncio.Future[Any] | DelayedResponse[Any]:
        if isinstance(response, asyncio.Future | DelayedResponse):
            return response
        task = self._background.ask(name, _await(response))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def finish(
        self, ctx: RequestContext, request_bytes: int, response: Any
    ) -> list[Buffer] | asyncio.Future[Any] | DelayedResponse[Any]:
        """The buffers of the reply, or a future, whose result is passed to this method again."""
        if isinstance(response, list):
            return response
        if not isinstance(response, Message):
            return self._future(f"API {ctx.api_key}", response)
        if is_quick(response):
            return self._framed(ctx, request_bytes, response, encode(response, ctx.api_version))
        steps = self._finish_in_steps(ctx, request_bytes, [response])
        found = self._slices.at_once(steps)
        if isinstance(found, Unfinished):
            ctx.large_work = ctx.large_work or LargeWork()
            return self._slices.later(steps, self._recorders[ctx.api_key].held)
        return found

    def _finish_in_steps(
        self, ctx: RequestContext, request_bytes: int, answer: list[Any]
    ) -> Steps[list[Buffer]]:
        response: Message = answer.pop()
        body = yield from encode_in_steps(response, ctx.api_version)
        if len(body) > MANY:
            body = yield from joined(body)
        buffers = self._framed(ctx, request_bytes, response, body)
        if ctx.large_work is not None:
            lists = yield from long_lists(response)
            del response
            yield from free(lists)
        return buffers

    def _framed(
        self, ctx: RequestContext, request_bytes: int, response: Message, body: list[Buffer]
    ) -> list[Buffer]:
        if ctx.keep is not None:
            ctx.keep(body)
        buffers = encode_response(ctx.api_key, ctx.api_version, ctx.correlation_id, body)
        quotas = self._quotas
        if quotas is not None:
            throttle_ms = quotas.throttle_ms(ctx, request_bytes, buffers)
            if throttle_ms > 0 and hasattr(response, "throttle_time_ms"):
                response.throttle_time_ms = throttle_ms
                buffers = encode_response(
                    ctx.api_key, ctx.api_version, ctx.correlation_id, encode(response, ctx.api_version)
                )
                ctx.session.mute_until(self._loop.time() + throttle_ms / 1000)
        self._recorders[ctx.api_key].record(ctx.api_version, self._loop.time() - ctx.arrival_s)
        return buffers

    def _refuse(
        self, connection: Asker, key: int, version: int, correlation_id: int, spec: ApiSpec | None
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


def is_quick(response: Message) -> bool:
    """Whether the reply is encoded in one go: one of the frequent APIs of at most ``WIDE`` topics and partitions."""
    if isinstance(response, FetchResponse):
        topics = response.responses
        return len(topics) <= WIDE and sum([len(topic.partitions) for topic in topics]) <= WIDE
    if isinstance(response, ProduceResponse):
        answered = response.responses
        return len(answered) <= WIDE and sum([len(t.partition_responses) for t in answered]) <= WIDE
    if isinstance(response, OffsetCommitResponse):
        committed = response.topics
        return len(committed) <= WIDE and sum([len(topic.partitions) for topic in committed]) <= WIDE
    return False


async def _await(response: Awaitable[Message | None]) -> Message | None:
    return await response
