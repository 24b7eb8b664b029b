"""Which connections may go on receiving while receive memory is used up, and which are closed.

A connection is *ready* when its socket holds the rest of its frame or a good part of it (``SCARCE_READ_BYTES``).

Rules:

* a request that comes whole in one read needs no memory: small ones always get through. A connection whose socket holds
  the rest of its frame does not wait either: it gives its memory back at once;
* otherwise one connection at a time goes on beyond the limit until its frame is whole: of the ready ones, the one that has
  waited for ``LONG_S``, or the one that misses the fewest bytes. So memory full of half frames stops nobody;
* a connection that waits here and is ready never counts as late, however long it waits. One that is not ready is late;
* while a ready connection waits, a turn in which nothing arrives passes to the next, and connections that hold a half frame
  are closed: the one whose turn brings nothing, or next to nothing, when twice the limit is used; then, until half the
  memory is free, those whose client has been late for ``LATE_S`` and those that have read one frame for ``FRAME_S``.

Bound: twice the limit (turns that ended early, buffers that grow as it is reached), plus one frame, plus
``SCARCE_READ_BYTES`` per connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from tierlog.broker.network.frames import SCARCE_READ_BYTES, ReceiveMemory

LATE_S = 5.0
FRAME_S = 10.0
LONG_S = 5.0
PAUSE_S = 0.1
STALL_S = 0.5
TURN_S = 1.0
TURN_BYTES_PER_S = 64 * 1024
LOOK_S = 0.05


class Receiver(Protocol):
    """A connection; times are on the loop's clock."""

    last_active_s: float

    @property
    def partial_since_s(self) -> float:
        """Since when the frame that is being read has been incomplete; 0: there is none."""

    @property
    def unread_bytes(self) -> int:
        """Bytes that the socket holds and that were not read yet; one system call."""

    @property
    def held_bytes_of_frame(self) -> int:
        """Bytes received of the frame that is being read."""

    @property
    def missing_bytes(self) -> int:
        """Bytes still missing of that frame."""

    @property
    def private_bytes(self) -> int:
        """Receive memory in use by the connection."""

    def go_on_receiving(self) -> None: ...

    def set_reading(self) -> None:
        """Makes the connection ask again whether it may read."""

    def close(self) -> None: ...


class ReceiveTurns:
    """The waiting connections of one event loop. ``turn`` is the one that may go on; to be read only."""

    __slots__ = (
        "_holding",
        "_loop",
        "_timer",
        "_turn_began_bytes",
        "_turn_began_s",
        "_waiting",
        "closed_count",
        "memory",
        "turn",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        memory_bytes: int,
        holding: Callable[[], Iterable[Receiver]],
    ) -> None:
        """``memory_bytes``: for the requests of all connections. ``holding``: all connections that have a half frame."""
        self._loop = loop
        self.memory = ReceiveMemory(memory_bytes, self._room)
        self._holding = holding
        # Each with the time since which it waits.
        self._waiting: dict[Receiver, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.turn: Receiver | None = None
        self._turn_began_s = 0.0
        self._turn_began_bytes = 0
        self.closed_count = 0

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def is_waiting(self, receiver: Receiver) -> bool:
        return receiver in self._waiting

    def may_go_on(self, receiver: Receiver) -> bool:
        """Whether the connection may read although memory is used up; if not, it waits here from now on."""
        if self.turn is receiver or is_all_there(receiver):
            return True
        if self.turn is None and not self._waiting:
            self._begin_turn(receiver)
            return True
        self._waiting.setdefault(receiver, self._loop.time())
        self._watch()
        return False

    def end_turn(self) -> None:
        """The turn is over: its frame is whole."""
        self.turn = None
        if self._waiting:
            self._next()

    def forget(self, receiver: Receiver) -> None:
        """The connection is gone, or needs no memory."""
        self._waiting.pop(receiver, None)
        if self.turn is receiver:
            self.end_turn()

    def _room(self) -> None:
        """Memory was given back."""
        free_bytes = self.memory.limit_bytes - self.memory.used_bytes
        if not self._waiting or free_bytes <= 0:
            return
        for receiver in self._in_order():
            if free_bytes <= 0:
                break
            # Its buffer may double.
            free_bytes -= receiver.private_bytes
            self._waiting.pop(receiver, None)
            receiver.go_on_receiving()

    def _in_order(self) -> list[Receiver]:
        """The waiting connections that are ready, in the order in which they may go on."""
        long_ago_s = self._loop.time() - LONG_S
        ranked = []
        for receiver, since_s in self._waiting.items():
            unread_bytes, missing_bytes = receiver.unread_bytes, receiver.missing_bytes
            if unread_bytes >= min(missing_bytes, SCARCE_READ_BYTES):
                is_first = since_s < long_ago_s
                ranked.append(
                    (
                        unread_bytes < missing_bytes,
                        not is_first,
                        since_s if is_first else missing_bytes,
                        receiver,
                    )
                )
        ranked.sort(key=_rank)
        return [entry[-1] for entry in ranked]

    def _begin_turn(self, receiver: Receiver) -> None:
        self.turn = receiver
        self._turn_began_s = self._loop.time()
        self._turn_began_bytes = receiver.held_bytes_of_frame

    def _next(self) -> None:
        for receiver in self._in_order()[:1]:
            del self._waiting[receiver]
            self._begin_turn(receiver)
            receiver.go_on_receiving()

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        self._watch()
        now_s = self._loop.time()
        ready = self._in_order()
        for receiver in ready:
            receiver.last_active_s = now_s
        if ready:
            self._shed(now_s)
            if self.turn is None:
                self._next()
            elif is_all_there(ready[0]) and self._waiting.pop(ready[0], None) is not None:
                ready[0].go_on_receiving()

    def _look_at_turn(self, turn: Receiver, now_s: float) -> None:
        """Ends a turn that brings too little, since somebody else waits for it."""
        turn_s, quiet_s = now_s - self._turn_began_s, now_s - turn.last_active_s
        received_bytes = turn.held_bytes_of_frame - self._turn_began_bytes
        is_slow = turn_s >= TURN_S and received_bytes < turn_s * TURN_BYTES_PER_S
        if is_ready(turn) or (min(turn_s, quiet_s) < PAUSE_S and not is_slow):
            return
        if self.memory.used_bytes < 2 * self.memory.limit_bytes:
            self.turn = None
            turn.set_reading()
        elif quiet_s >= STALL_S or is_slow:
            self.turn = None
            self._lose(turn)

    def _shed(self, now_s: float) -> None:
        if self.turn is not None:
            self._look_at_turn(self.turn, now_s)
        # Down to half the limit: just below it the next one would wait again.
        excess_bytes = self.memory.used_bytes - self.memory.limit_bytes // 2
        late, slow = [], []
        for receiver in self._holding():
            # A loop that was busy may not have read the bytes that came.
            if now_s - receiver.last_active_s >= LATE_S and not is_ready(receiver):
                late.append((receiver.last_active_s, receiver))
            elif receiver not in self._waiting and now_s - receiver.partial_since_s >= FRAME_S:
                slow.append((receiver.partial_since_s, receiver))
        for _, each in (*sorted(late, key=_since), *sorted(slow, key=_since)):
            if excess_bytes < 0:
                break
            excess_bytes -= each.private_bytes
            self._lose(each)

    def _lose(self, receiver: Receiver) -> None:
        self.closed_count += 1
        receiver.close()


def is_all_there(receiver: Receiver) -> bool:
    """Whether the rest of its frame can be read at once."""
    return receiver.unread_bytes >= max(receiver.missing_bytes, 1)


def is_ready(receiver: Receiver) -> bool:
    """Whether the socket holds the rest of the frame, or ``SCARCE_READ_BYTES`` of it: then the client is not late."""
    return receiver.unread_bytes >= min(max(receiver.missing_bytes, 1), SCARCE_READ_BYTES)


def _rank(entry: tuple[bool, bool, float, Receiver]) -> tuple[bool, bool, float]:
    return entry[:3]


def _since(entry: tuple[float, Receiver]) -> float:
    return entry[0]
