"""Bytes in, frames out: where a connection's received bytes lie until they are whole requests.

All connections of a loop read into one scratch buffer; only a connection whose last frame is incomplete, or that is
blocked, owns memory of its own. A private buffer grows with the bytes that have arrived, never with the size that a length
prefix promises. Frames are writable views into the buffer and are valid only until ``settle``; to keep bytes, copy them.

Bounds: one frame is at most ``max_frame_bytes``; all private buffers together at most ``ReceiveMemory.limit_bytes``. Beyond
that limit a connection with a part of a frame waits (``receive_turns``), and one without reads at most
``SCARCE_READ_BYTES`` at a time. At most ``SPARE_COUNT`` spare buffers are kept for reuse.
"""

from __future__ import annotations

from collections.abc import Callable

from tierlog.errors import MalformedMessage

SCRATCH_BYTES = 256 * 1024
MIN_PRIVATE_BYTES = 16 * 1024
SCARCE_READ_BYTES = 16 * 1024
SCARCE_PRIVATE_BYTES = 1024
SPARE_COUNT = 8
SPARE_BYTES_MAX = 2 * 1024 * 1024
SIZE_PREFIX_BYTES = 4


class ReceiveMemory:
    """The receive buffers of one event loop."""

    __slots__ = ("_on_room", "_spare", "limit_bytes", "scarce_scratch", "scratch", "used_bytes")

    def __init__(self, limit_bytes: int, on_room: Callable[[], None] | None = None) -> None:
        """``on_room`` is called when memory was given back."""
        self._on_room = on_room
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.scarce_scratch = self.scratch[:SCARCE_READ_BYTES]
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._spare: list[bytearray] = []

    @property
    def is_exhausted(self) -> bool:
        return self.used_bytes >= self.limit_bytes

    def acquire(self, size_bytes: int) -> bytearray:
        """A buffer of at least ``size_bytes``; its content is undefined."""
        for index, spare in enumerate(self._spare):
            if len(spare) >= size_bytes:
                del self._spare[index]
                self.used_bytes += len(spare)
                return spare
        buffer = bytearray(size_bytes)
        self.used_bytes += len(buffer)
        return buffer

    def release(self, buffer: bytearray) -> None:
        self.used_bytes -= len(buffer)
        if MIN_PRIVATE_BYTES <= len(buffer) <= SPARE_BYTES_MAX and len(self._spare) < SPARE_COUNT:
            self._spare.append(buffer)
        if self._on_room is not None:
            self._on_room()


class FrameBuffer:
    """Received bytes ``[_start, _end)`` of one connection, in the shared scratch or in a private buffer."""

    __slots__ = ("_end", "_memory", "_private", "_start", "_view", "max_frame_bytes")

    def __init__(self, memory: ReceiveMemory, max_frame_bytes: int) -> None:
        self._memory = memory
        self.max_frame_bytes = max_frame_bytes
        self._private: bytearray | None = None
        self._view = memory.scratch
        self._start = 0
        self._end = 0

    @property
    def held_bytes(self) -> int:
        """Bytes received that are not yet given out as frames."""
        return self._end - self._start

    @property
    def private_bytes(self) -> int:
        """Receive memory in use by this connection."""
        return 0 if self._private is None else len(self._private)

    @property
    def missing_bytes(self) -> int:
        """Bytes still missing of the frame that is being received, as far as known: of its size prefix first."""
        held = self._end - self._start
        if held < SIZE_PREFIX_BYTES:
            return SIZE_PREFIX_BYTES - held
        size = int.from_bytes(self._view[self._start : self._start + SIZE_PREFIX_BYTES], "big")
        return size + SIZE_PREFIX_BYTES - held

    def writable(self) -> memoryview:
        """Where the next bytes go; never empty."""
        memory = self._memory
        if memory.used_bytes >= memory.limit_bytes and self._private is None:
            return memory.scarce_scratch
        return self._view[self._end :] if self._end else self._view

    def received(self, count: int) -> None:
        self._end += count

    def next_frame(self) -> memoryview | None:
        """The next whole frame without its size prefix; None where it has not all arrived.

        Raises MalformedMessage where the size is negative or above ``max_frame_bytes``.
        """
        body = self._start + SIZE_PREFIX_BYTES
        if self._end < body:
            return None
        size = int.from_bytes(self._view[self._start : body], "big", signed=True)
        if not 0 <= size <= self.max_frame_bytes:
            raise MalformedMessage(f"frame of {size} bytes; at most {self.max_frame_bytes} are allowed")
        if self._end < body + size:
            return None
        self._start = body + size
        return self._view[body : self._start]

    def put_back(self, frame: memoryview) -> None:
        """Takes the last frame back: ``next_frame`` returns it again."""
        self._start -= SIZE_PREFIX_BYTES + len(frame)

    def settle(self) -> None:
        """Makes room for the next read: left bytes move from the scratch to a private buffer, or to the front of it, or to
        a larger one."""
        held = self._end - self._start
        if held == 0:
            self.close()
            return
        wanted = self._wanted_bytes(held)
        if self._private is not None and len(self._private) >= wanted:
            if self._start > 0:
                self._view[:held] = self._view[self._start : self._end]
        else:
            grown = self._memory.acquire(wanted)
            view = memoryview(grown)
            view[:held] = self._view[self._start : self._end]
            self._release_private()
            self._private, self._view = grown, view
        self._start, self._end = 0, held

    def _wanted_bytes(self, held: int) -> int:
        """Capacity for what is here and what may come next: the whole frame where half of it is here already."""
        least = SCARCE_PRIVATE_BYTES if self._memory.is_exhausted else MIN_PRIVATE_BYTES
        doubled = max(2 * held, least)
        if held < SIZE_PREFIX_BYTES:
            return doubled
        size = int.from_bytes(self._view[self._start : self._start + SIZE_PREFIX_BYTES], "big")
        frame = size + SIZE_PREFIX_BYTES
        return doubled if frame <= held else min(doubled, max(frame, least))

    def close(self) -> None:
        """Gives the private buffer back."""
        self._release_private()
        self._view = self._memory.scratch
        self._start = self._end = 0

    def _release_private(self) -> None:
        if self._private is not None:
            private, self._private = self._private, None
            self._memory.release(private)
