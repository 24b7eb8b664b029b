"""A consumer's fetch without a session that the kernel has found nothing for: it waits here, and is then answered by the
kernel, or by the twin where that does not know what it meets.

Nothing is remembered of the first look: the request is read again when the wait is over.
Bound: one per connection, which serves one fetch after another; it keeps the request's frame.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tierlog.broker.fetch.consumer_fetch import consumer_fetch
from tierlog.broker.network.context import context_of
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.lazy_timer import NEVER_S, LazyTimer
from tierlog.wire.codec import decode
from tierlog.wire.framing import decode_request_header
from tierlog.wire.messages.fetch import FetchRequest

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
        "_min_bytes",
        "_partitions",
        "_parts",
        "_slot",
        "_timer",
    )

    def __init__(self, parts: FetchParts, fetches: Any, connection: Connection) -> None:
        self._parts = parts
        self._kernel = fetches
        self._connection = connection
        # The place of the reply; None while no fetch waits here.
        self._slot: PendingReply | None = None
        self._frame = b""
        self._partitions: list[Partition] = []
        self._arrival_s = 0.0
        self._min_bytes = self._gathered_bytes = 0
        self._is_woken = False
        self._timer = LazyTimer(parts.loop, self._answer)

    def park(
        self, frame: bytes, partitions: list[Partition], min_bytes: int, max_wait_ms: int, arrival_s: float
    ) -> None:
        self._slot = self._connection.park(self)
        self._frame = frame
        self._partitions = partitions
        self._arrival_s = arrival_s
        self._min_bytes = min_bytes
        self._gathered_bytes = 0
        for partition in partitions:
            partition.parked[id(self)] = self
        self._timer.set(arrival_s + max_wait_ms / 1000)

    def on_progress(self, partition: Partition, new_bytes: int) -> None:
        self._gathered_bytes += new_bytes
        if self._is_woken or (new_bytes and self._gathered_bytes < self._min_bytes):
            return
        # Not at once: an append that calls this sends its own reply first, and its other partitions count too.
        self._is_woken = True
        self._timer.due_s = NEVER_S
        self._parts.loop.call_soon(self._answer)

    def cancel(self) -> None:
        """The client has left."""
        self._end()

    def _end(self) -> None:
        self._slot = None
        self._timer.due_s = NEVER_S
        for partition in self._partitions:
            partition.parked.pop(id(self), None)
        self._partitions = []

    def _answer(self) -> None:
        self._is_woken = False
        slot, connection = self._slot, self._connection
        if slot is None:
            return
        self._end()
        found = self._kernel.consume(connection, self._frame, self._arrival_s)
        if found is not None:
            connection.answer(slot, found)
        else:
            self._by_the_handler(slot)

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
        context = parts.fetch_sessions.resolve(request, header.api_version, parts.loop.time())
        found = consumer_fetch(parts, ctx, request, context)
        connection.answer_by(slot, found, partial(connection.dispatcher.finish, ctx, len(self._frame)))
