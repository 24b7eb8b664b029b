"""One client connection: frames in, replies out in request order.

Rules:

* A request is dispatched as soon as its frame is whole. A request whose reply is not ready blocks the frames behind it, as
  Kafka mutes a channel. Pipelined APIs (Produce) are exempt: up to ``MAX_PIPELINED`` of them may wait at once. Replies
  leave in request order whatever finishes first.
* A client may send very many small requests at once: those that this turn of the loop has no time for wait for the next one.
* While the connection is blocked or throttled, or its peer does not read its replies, reading pauses once some bytes have
  arrived, and not before: most clients send nothing until they have their reply, so this saves two system calls a fetch.
* Replies that wait, for their socket or behind another, are counted in memory that all connections share. When that is
  used up, a request whose reply may be large waits, and so does every request of a peer that does not read its replies
  (``reply_memory``).
* Malformed bytes close the connection; so does a bug in a handler, which costs this connection and nothing else.
* A reply is a list of buffers. All replies that are ready after one read are written with one system call, and so are
  those of pipelined requests that became ready in one step: one follower's fetch may commit batches of many producers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

from tierlog import kernel
from tierlog.broker.network.context import CloseConnection
from tierlog.broker.network.frames import FrameBuffer
from tierlog.broker.network.places import Ending, Finish, PendingReply, Place, Waiting, WaitingReply
from tierlog.broker.network.ports import Dispatching, Owner
from tierlog.broker.network.receive_turns import is_ready
from tierlog.broker.network.rows import Row
from tierlog.broker.network.socket_writer import SocketWriter
from tierlog.broker.network.tallies import ConnectionTraffic
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.errors import MalformedMessage
from tierlog.log.append import AppendResult
from tierlog.replication.sent_away import SentAway
from tierlog.types import Buffer

MAX_PIPELINED = 64
FLUSH_S = 5.0
# Replies that wait behind another are counted from this size on, and a larger one is not kept for the next to join it.
SMALL_REPLY_BYTES = 4096
GATHERED_MAX = 64


class Connection(asyncio.BufferedProtocol):
    """Driver of one socket. ``listener`` names the endpoint it came in by."""

    __slots__ = (
        "_abort_timer",
        "_awaits_memory",
        "_awaits_turn",
        "_ended",
        "_frames",
        "_in_process",
        "_is_draining",
        "_muted_until_s",
        "_outgoing",
        "_pending",
        "_reading",
        "_receive_turns",
        "_reply_memory",
        "_transport",
        "_unmute_timer",
        "_unsent_bytes",
        "_writer",
        "appended",
        "client_software",
        "closing",
        "dispatcher",
        "held_bytes",
        "last_active_s",
        "listener",
        "listener_name",
        "parked",
        "partial_since_s",
        "peer_host",
        "sent_away",
        "traffic",
    )

    def __init__(self, listener: Owner, dispatcher: Dispatching) -> None:
        self.listener = listener
        self.listener_name = listener.name
        self.dispatcher = dispatcher
        self._frames = FrameBuffer(listener.receive_memory, listener.max_request_bytes)
        self._pending: deque[Place] = deque()
        self._transport: asyncio.Transport
        self._writer: SocketWriter
        self._reply_memory = listener.reply_memory
        self._receive_turns = listener.receive_turns
        self.partial_since_s = 0.0
        self._reading = True
        # Whether the transport holds replies, and the reply memory that those use.
        self._is_draining = False
        self._unsent_bytes = 0
        # All reply memory in use here: ``_unsent_bytes``, and replies that wait behind others.
        self.held_bytes = 0
        self._awaits_memory = False
        # Whole frames wait for the next turn of the loop.
        self._awaits_turn = False
        self._in_process = False
        self._outgoing: list[Buffer] = []
        # Pipelined requests whose answers have come but are not yet put into their places.
        self._ended: list[PendingReply | WaitingReply] = []
        self._muted_until_s = 0.0
        # Cancelled when the connection ends: a pending timer would keep all of it alive.
        self._abort_timer: asyncio.TimerHandle | None = None
        self._unmute_timer: asyncio.TimerHandle | None = None
        self.closing = False
        self.peer_host = ""
        self.last_active_s = listener.loop.time()
        # Name and version as the client told them in ApiVersions (KIP-511).
        self.client_software = ""
        # Of the next frame: what the kernel has appended of it; the handler goes on.
        self.appended: list[AppendResult] | None = None
        self.sent_away: SentAway | None = None
        self.parked: Any = None  # what the kernel parks a consumer's fetch as
        self.traffic: ConnectionTraffic | None = None

    # -- transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._writer = SocketWriter(self._transport)
        peer = transport.get_extra_info("peername")
        self.peer_host = str(peer[0]) if isinstance(peer, tuple) and peer else "local"
        if not self.listener.admit(self):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        for timer in (self._abort_timer, self._unmute_timer):
            if timer is not None:
                timer.cancel()
        for place in self._pending:
            place.leave()
        self._pending.clear()
        self._reply_memory.forget(self)
        self._receive_turns.forget(self)
        if self.held_bytes:
            self._let_go(self.held_bytes)
        self._frames.close()
        self.listener.forget(self)

    @kernel.compiled_method
    def get_buffer(self, sizehint: int) -> memoryview:
        return self._frames.writable()

    @kernel.compiled_method
    def buffer_updated(self, nbytes: int) -> None:
        """The kernel serves whole frames itself where ``dispatcher.hot`` is its own, sends their replies, and goes on here
        with ``_process`` from the first frame on that it does not know."""
        self.last_active_s = self.listener.loop.time()
        self._frames.received(nbytes)
        self._process()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        """The transport holds unsent bytes: its high-water mark is 0."""
        self._is_draining = True

    def resume_writing(self) -> None:
        """The socket has taken all that the transport held."""
        self._is_draining = False
        unsent_bytes, self._unsent_bytes = self._unsent_bytes, 0
        if unsent_bytes:
            self._let_go(unsent_bytes)
        self._process()

    @property
    def transport(self) -> asyncio.Transport:
        return self._transport

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    # -- requests

    @property
    def is_blocked(self) -> bool:
        """Whether the next frame has to wait."""
        pending = self._pending
        if self._muted_until_s or self._awaits_memory or self._awaits_turn:
            return True
        if self.held_bytes and (
            self.held_bytes > self.listener.output_bytes
            or self.held_bytes > self._unsent_bytes  # one large reply behind another is enough
        ):
            return True
        return bool(pending) and (not pending[-1].pipelined or len(pending) >= MAX_PIPELINED)

    def _process(self) -> None:
        if self._in_process or self.closing:
            return
        self._in_process = True
        frames, memory, turns = self._frames, self._reply_memory, self._receive_turns
        try:
            while not (self.closing or self.is_blocked):
                frame = frames.next_frame()
                if frame is None:
                    break
                self.partial_since_s = 0.0
                if turns.turn is self:
                    turns.end_turn()
                if memory.used_bytes >= memory.limit_bytes and self._has_to_wait(frame):
                    frames.put_back(frame)
                    break
                self.dispatcher.dispatch(self, frame)
                if frames.held_bytes and not self.dispatcher.has_time():
                    self._awaits_turn = True
                    self.listener.loop.call_soon(self._take_turn)
        except Exception as error:
            self._fail(error)
            return
        finally:
            self._in_process = False
            if self._outgoing:
                self._send()
        frames.settle()
        self.set_reading()

    def _take_turn(self) -> None:
        self._awaits_turn = False
        self._process()

    def set_reading(self) -> None:
        """Reads on, unless received bytes have to wait here, or receive memory is used up and it is another's turn."""
        wanted = True
        if self._frames.held_bytes:
            if not self.partial_since_s:
                self.partial_since_s = self.last_active_s
            wanted = not self.is_blocked
            if wanted and self.listener.receive_memory.is_exhausted:
                wanted = self._receive_turns.may_go_on(self)
        if wanted == self._reading or self.closing:
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # -- receive memory

    def go_on_receiving(self) -> None:
        if not self.closing:
            # The time that it waited here is not its client's delay.
            self.last_active_s = self.partial_since_s = self.listener.loop.time()
            self.set_reading()

    @property
    def holds_partial_frame(self) -> bool:
        return self._frames.held_bytes > 0 and not self.closing and not self.is_blocked

    @property
    def private_bytes(self) -> int:
        return self._frames.private_bytes

    @property
    def held_bytes_of_frame(self) -> int:
        return self._frames.held_bytes

    @property
    def missing_bytes(self) -> int:
        return self._frames.missing_bytes

    @property
    def unread_bytes(self) -> int:
        return 0 if self.closing else self._writer.unread_bytes()

    # -- reply memory

    def _has_to_wait(self, frame: memoryview) -> bool:
        """Whether a request waits while reply memory is used up: all do but those with small replies, if the peer reads."""
        if not self.held_bytes and self.dispatcher.waits_by_itself(frame):
            return False
        self._awaits_memory = True
        self._reply_memory.wait(self, self._resume_after_reply_memory)
        return True

    def _resume_after_reply_memory(self) -> None:
        self._awaits_memory = False
        self._process()

    @property
    def untaken_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def _hold(self, size_bytes: int) -> None:
        self.held_bytes += size_bytes
        self._reply_memory.hold(self, size_bytes)

    def _let_go(self, size_bytes: int) -> None:
        self.held_bytes -= size_bytes
        self._reply_memory.let_go(self, size_bytes)

    # -- replies

    def reply(self, buffers: list[Buffer]) -> None:
        """A reply that was ready at once."""
        if self._pending:
            slot = PendingReply(True, None, None, False)
            self._pending.append(slot)
            self._fill(slot, buffers)
        else:
            outgoing = self._outgoing
            outgoing.extend(buffers)
            # A large reply leaves at once, so that the next request sees the memory that it uses.
            if (
                not self._in_process
                or len(buffers) > 1
                or len(outgoing) >= GATHERED_MAX
                or len(buffers[0]) > SMALL_REPLY_BYTES
            ):
                self._send()

    def reply_later(self, row: Row, future: Ending, finish: Finish) -> None:
        """Keeps the reply's place: see ``Asker``."""
        # The work of a DelayedResponse is done, only its reply waits; a task still works, and nothing may overtake it.
        pipelined = row.pipelined and isinstance(future, DelayedResponse)
        slot = PendingReply(pipelined, future, finish, row.gives_up)
        self._pending.append(slot)
        self._put(slot, future)

    def park(self, waiting: Waiting) -> PendingReply:
        """The place of a reply that ``answer``, or ``answer_by`` and its ``finish``, will bring; the next request waits."""
        slot = PendingReply(False, waiting, None, False)
        self._pending.append(slot)
        return slot

    def answer(self, slot: PendingReply, buffers: list[Buffer]) -> None:
        if not self.closing:
            self._fill(slot, buffers)
            self._flush()

    def answer_by(self, slot: PendingReply, response: Any, finish: Finish) -> None:
        slot.finish = finish
        if not self.closing and self._put(slot, finish(response)):
            self._flush()

    def keep_place(self, place: WaitingReply) -> None:
        """Keeps the place of a reply that waits by itself, and calls ``answered`` when it is there."""
        self._pending.append(place)

    def answered(self, place: PendingReply | WaitingReply) -> None:
        """Only notes that the answer has come, in a step that may belong to another connection's request."""
        if not self._ended:
            self.listener.loop.call_soon(self._place_ended)
        self._ended.append(place)

    def _place_ended(self) -> None:
        all_ended, self._ended = self._ended, []
        for place in all_ended:
            if self.closing:
                return
            if isinstance(place, PendingReply):
                self._place(place)
            else:
                self._fill(place, place.take_buffers())
        self._flush()

    def _place_now(self, slot: PendingReply) -> None:
        if self._place(slot):
            self._flush()

    def _place(self, slot: PendingReply) -> bool:
        """Puts the answer into its place; False where there is nothing to send."""
        ended, finish = cast("Ending", slot.future), slot.finish
        assert finish is not None
        if self.closing or ended.cancelled():
            return False
        error = ended.exception()
        if error is not None:
            self._fail(error)
            return False
        response = ended.result()
        if response is None:
            self._pending.remove(slot)
            return True
        if isinstance(response, WaitingReply):
            self._pending[self._pending.index(slot)] = response
            return True
        return self._put(slot, finish(response))

    def _put(self, slot: PendingReply, found: list[Buffer] | Ending) -> bool:
        """Puts the buffers into their place, or waits for them; False where there is nothing to send."""
        if isinstance(found, list):
            self._fill(slot, found)
            return True
        slot.future = found
        found.add_done_callback(
            lambda ended: self.answered(slot) if slot.pipelined else self._place_now(slot)
        )
        return False

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, MalformedMessage):
            self.listener.on_malformed(self, error)
            self._close_soon()
        elif isinstance(error, CloseConnection):
            self._close_soon()
        else:
            self.listener.on_bug(self, error)
            self.close()

    def _fill(self, slot: Place, buffers: list[Buffer]) -> None:
        slot.buffers = buffers
        if slot is not self._pending[0]:
            size_bytes = sum(map(len, buffers))
            if size_bytes > SMALL_REPLY_BYTES:
                slot.held_bytes = size_bytes
                self._hold(size_bytes)

    def _flush(self) -> None:
        pending = self._pending
        while pending:
            slot = pending[0]
            if slot.buffers is None:
                break
            pending.popleft()
            self._outgoing.extend(slot.buffers)
            if slot.held_bytes:
                self._let_go(slot.held_bytes)
        if self._outgoing and not self._in_process:
            self._send()
        self._process()

    def _send(self) -> None:
        """Writes the gathered replies: those to all frames of one read leave in one system call."""
        outgoing, self._outgoing = self._outgoing, []
        if not self.closing:
            self._hold_unsent(self._writer.write(outgoing))

    def _sent_partly(self, buffers: list[Buffer], sent_bytes: int) -> None:
        """The kernel has written so many bytes of these replies."""
        self._hold_unsent(self._writer.leave(buffers, sent_bytes))

    def _hold_unsent(self, left_bytes: int) -> None:
        # The transport may have sent the rest at once; if not, it has called ``pause_writing``.
        if left_bytes and self._is_draining:
            self._unsent_bytes += left_bytes
            self._hold(left_bytes)

    def mute_until(self, until_s: float) -> None:
        """Takes no more requests until ``until_s`` (monotonic), and reads no more than the first bytes of the next: how a
        quota slows a client (KIP-219)."""
        self._muted_until_s = until_s
        if self._unmute_timer is not None:
            self._unmute_timer.cancel()
        self._unmute_timer = self.listener.loop.call_at(until_s, self._unmute)

    def _unmute(self) -> None:
        self._muted_until_s = 0.0
        self._unmute_timer = None
        self._process()

    def is_idle(self, now_s: float, idle_s: float, partial_frame_s: float) -> bool:
        """Whether no bytes came for ``idle_s``, or for ``partial_frame_s`` while a frame is incomplete. Time that the
        connection waits for receive memory does not count."""
        if self._pending:
            return False
        if self._receive_turns.is_waiting(self) and is_ready(self):
            self.last_active_s = now_s
        quiet_s = now_s - self.last_active_s
        return quiet_s > idle_s or (quiet_s > partial_frame_s and self.holds_partial_frame)

    def close_when_written(self) -> None:
        """Closes; bytes that were handed to the transport still go out."""
        if not self.closing:
            self.closing = True
            self._transport.close()

    def _close_soon(self) -> None:
        """Closes because of what the peer sent: replies to sound requests before it still go out, if it reads them."""
        if self._outgoing:
            self._send()
        self.close_when_written()
        self._abort_timer = self.listener.loop.call_later(FLUSH_S, self._transport.abort)

    def close(self) -> None:
        """Drops the connection; replies not yet written are lost with it."""
        if not self.closing:
            self.closing = True
            self._transport.abort()
