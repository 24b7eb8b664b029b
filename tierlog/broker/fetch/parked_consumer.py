"""A consumer's fetch that the kernel has found nothing for: it waits here, and is then answered by the kernel, or by the
twin where that does not know what it meets.

Nothing that the first look has found is remembered, since it was nothing: the request is read again when the wait is over.
Of a session it is remembered what was looked at: that is what the answer tells of, beside what has changed.
Bound: one per connection, which serves one fetch after another; it keeps the request's frame.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tierlog.broker.fetch.consumer_fetch import consumer_fetch
from tierlog.broker.fetch.consumer_watch import ConsumerWatch
from tierlog.broker.fetch.sessions import FetchContext
from tierlog.broker.network.context import context_of
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.broker.work.lazy_timer import NEVER_S, LazyTimer
from tierlog.errors import ErrorCode
from tierlog.wire.codec import decode
from tierlog.wire.framing import decode_request_header
from tierlog.wire.messages.fetch import FetchRequest, FetchResponse

if TYPE_CHECKING:
    from tierlog.broker.fetch.parts import FetchParts
    from tierlog.broker.network.connection import Connection
    from tierlog.broker.network.places import PendingReply


class ParkedConsumer:
    """The waiting fetch of one connection (``Parked``)."""

    __slots__ = (
        "_arrival_s",
        "_connection",
        "_frame",
        "_gathered_bytes",
        "_is_woken",
        "_kernel",
        "_looked",
        "_min_bytes",
        "_parts",
        "_slot",
        "_timer",
        "_watch",
    )

    def __init__(self, parts: FetchParts, fetches: Any, connection: Connection) -> None:
        self._parts = parts
        self._kernel = fetches
        self._connection = connection
        # The place of the reply; None while no fetch waits here.
        self._slot: PendingReply | None = None
        self._frame = b""
        # Of a session: what the fetch has looked at, and the watch, which is told of changes. Else its partitions.
        self._looked: list[Any] = []
        self._watch: ConsumerWatch | None = None
        self._arrival_s = 0.0
        self._min_bytes = self._gathered_bytes = 0
        self._is_woken = False
        self._timer = LazyTimer(parts.loop, self._answer)

    def park(
        self,
        frame: bytes,
        looked: list[Any],
        watch: ConsumerWatch | None,
        min_bytes: int,
        max_wait_ms: int,
        arrival_s: float,
    ) -> None:
        self._slot = self._connection.park(self)
        self._frame = frame
        self._looked = looked
        self._watch = watch
        self._arrival_s = arrival_s
        self._min_bytes = min_bytes
        self._gathered_bytes = 0
        if watch is not None:
            watch.wait(self)
        else:
            for partition in looked:
                partition.parked[id(self)] = self
        self._timer.set(arrival_s + max_wait_ms / 1000)

    def on_progress(self, partition: Partition, new_bytes: int) -> None:
        self._gathered_bytes += new_bytes
        if not new_bytes or self._gathered_bytes >= self._min_bytes:
            self.wake()

    def wake(self) -> None:
        # Not at once: an append that calls this sends its own reply first, and its other partitions count too.
        if not self._is_woken:
            self._is_woken = True
            self._timer.due_s = NEVER_S
            self._parts.loop.call_soon(self._answer)

    def cancel(self) -> None:
        """The client has left."""
        self._end()

    def _end(self) -> None:
        self._slot = None
        self._timer.due_s = NEVER_S
        if self._watch is not None:
            self._watch.unpark(self)
        else:
            for partition in self._looked:
                partition.parked.pop(id(self), None)
            self._looked = []

    def _answer(self) -> None:
        self._is_woken = False
        slot, connection = self._slot, self._connection
        if slot is None:
            return
        self._end()
        found = self._kernel.consume(connection, slot, self._frame, self._arrival_s, self._looked)
        self._looked = []
        if found is None:
            self._by_the_handler(slot)
        elif found is not True:
            connection.answer(slot, found)

    def _by_the_handler(self, slot: PendingReply) -> None:
        """As the handler would, for a request that has waited."""
        parts, connection = self._parts, self._connection
        header = decode_request_header(self._frame)
        request, _ = decode(FetchRequest, header.api_version, self._frame, header.body_offset)
        request.max_wait_ms = 0
        ctx = context_of(
            connection,
            header.api_key,
            header.api_version,
            header.correlation_id,
            header.client_id,
            self._arrival_s,
        )
        context = self._context(request, header.api_version)
        found: FetchResponse | DelayedResponse[FetchResponse]
        if context is None:
            found = FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        else:
            found = consumer_fetch(parts, ctx, request, context)
        connection.answer_by(slot, found, partial(connection.dispatcher.finish, ctx, len(self._frame)))

    def _context(self, request: FetchRequest, version: int) -> FetchContext | None:
        """None where the session has ended. The session has been given the request already."""
        if self._watch is None:
            return self._parts.fetch_sessions.resolve(request, version, self._parts.loop.time())
        session = self._watch.live_session
        if session is None:
            return None
        return FetchContext(ErrorCode.NONE, session, session.partitions.values(), True)
