"""Who may go on receiving while receive memory is used up, and who loses.

Rules:

* a request that comes whole in one read never needs memory: small ones always get through. Nor does one wait whose rest
  lies in the socket: it gives its memory back at once;
* else one connection at a time goes on beyond the limit until its frame is whole: the first of those who wait that is
  ready, which is to say that its socket holds the rest of the frame, or a good part of it. So memory full of half frames
  stops nobody;
* who waits here and is ready is late with nothing, however long it waits. Who is not ready is late itself;
* while somebody ready waits, a turn in which nothing comes goes to the next, and those that hold a half frame lose: whose
  turn brings less than ``TURN_BYTES_PER_S``; then, until half the memory is free, whose client has been late for ``LATE_S``,
  and whose frame takes longer than ``FRAME_S`` of reading.

Bound: the limit, by which buffers that grow when it is reached may go beyond it once, a quarter more by turns that ended
early, one frame, and ``SCARCE_READ_BYTES`` per connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from tierlog.broker.frames import SCARCE_READ_BYTES, ReceiveMemory

LATE_S = 5.0
FRAME_S = 10.0
PAUSE_S = 0.1
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
        """What the socket holds that was not read; asked of the system."""

    @property
    def held_bytes_of_frame(self) -> int:
        """What is here of the frame that is being read."""

    @property
    def missing_bytes(self) -> int:
        """What is not."""

    @property
    def private_bytes(self) -> int:
        """The receive memory that it has."""

    def go_on_receiving(self) -> None: ...

    def set_reading(self) -> None:
        """It has to ask again whether it may."""

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
        memory: ReceiveMemory,
        holding: Callable[[], Iterable[Receiver]],
    ) -> None:
        """``holding``: all connections that have a half frame."""
        self._loop = loop
        self.memory = memory
        self._holding = holding
        self._waiting: dict[Receiver, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.turn: Receiver | None = None
        self._turn_began_s = 0.0
        self._turn_began_bytes = 0
        self.closed_count = 0
        memory.on_room = self._room

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def is_waiting(self, receiver: Receiver) -> bool:
        return receiver in self._waiting

    def may_go_on(self, receiver: Receiver) -> bool:
        """Whether it may read, though there is no memory. Else it waits."""
        if self.turn is receiver or is_all_there(receiver):
            return True
        if self.turn is None and not self._waiting:
            self._begin_turn(receiver)
            return True
        self._waiting[receiver] = None
        self._watch()
        return False

    def end_turn(self) -> None:
        """Its frame is whole."""
        self.turn = None
        if self._waiting:
            self._next()

    def forget(self, receiver: Receiver) -> None:
        """Its connection is gone, or needs no memory."""
        self._waiting.pop(receiver, None)
        if self.turn is receiver:
            self.end_turn()

    def _room(self) -> None:
        """Memory was given back."""
        # Each may grow by as much as it has.
        free_bytes = self.memory.limit_bytes - self.memory.used_bytes
        while self._waiting and free_bytes > 0:
            receiver = next(iter(self._waiting))
            del self._waiting[receiver]
            free_bytes -= receiver.private_bytes
            receiver.go_on_receiving()

    def _begin_turn(self, receiver: Receiver) -> None:
        self.turn = receiver
        self._turn_began_s = self._loop.time()
        self._turn_began_bytes = receiver.held_bytes_of_frame

    def _next(self) -> None:
        receiver = self._first(is_all_there) or self._first(is_ready)
        if receiver is not None:
            self._begin_turn(receiver)
            receiver.go_on_receiving()

    def _first(self, may: Callable[[Receiver], bool]) -> Receiver | None:
        """Takes it out of those who wait."""
        for receiver in self._waiting:
            if may(receiver):
                del self._waiting[receiver]
                return receiver
        return None

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        self._watch()
        now_s = self._loop.time()
        has_ready = False
        for receiver in self._waiting:
            if is_ready(receiver):
                receiver.last_active_s = now_s
                has_ready = True
        if has_ready:
            self._shed(now_s)
            if self.turn is None:
                self._next()
            elif (first := self._first(is_all_there)) is not None:
                first.go_on_receiving()

    def _look_at_turn(self, turn: Receiver, now_s: float) -> None:
        """Somebody else waits for it."""
        turn_s = now_s - self._turn_began_s
        if turn_s < PAUSE_S or turn.unread_bytes or now_s - turn.last_active_s < PAUSE_S:
            return
        received_bytes = turn.held_bytes_of_frame - self._turn_began_bytes
        if turn_s >= TURN_S and received_bytes < turn_s * TURN_BYTES_PER_S:
            self.turn = None
            self._lose(turn)
        elif 4 * self.memory.used_bytes <= 5 * self.memory.limit_bytes:
            self.turn = None
            turn.set_reading()

    def _shed(self, now_s: float) -> None:
        if self.turn is not None:
            self._look_at_turn(self.turn, now_s)
        # Not just below the limit, where the next one waits again.
        excess_bytes = self.memory.used_bytes - self.memory.limit_bytes // 2
        late, slow = [], []
        for receiver in self._holding():
            # A loop that was busy may not have read what came.
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
    """Whether its client has sent what it could."""
    return receiver.unread_bytes >= min(max(receiver.missing_bytes, 1), SCARCE_READ_BYTES)


def _since(entry: tuple[float, Receiver]) -> float:
    return entry[0]
