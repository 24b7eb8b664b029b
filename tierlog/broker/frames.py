"""Bytes in, frames out: where a connection's received bytes lie until they are whole requests.

All connections of a loop read into one scratch buffer; only a connection whose last frame is incomplete, or that is
blocked, owns memory of its own. A private buffer grows with the bytes that have arrived, never with what a length
prefix promises. Frames are writable views into the buffer and are valid only until ``settle``: whoever keeps
anything copies it.

Bounds: one frame is at most ``max_frame_bytes``; all private buffers together at most ``ReceiveMemory.limit_bytes``
(beyond it connections stop reading until another one has given its memory back), the spare ones kept for reuse at
most ``SPARE_COUNT``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tierlog.errors import MalformedMessage

SCRATCH_BYTES = 256 * 1024
MIN_PRIVATE_BYTES = 16 * 1024
SPARE_COUNT = 8
SPARE_BYTES_MAX = 2 * 1024 * 1024
SIZE_PREFIX_BYTES = 4


class ReceiveMemory:
    """The receive buffers of one event loop."""

    __slots__ = ("_spare", "_waiting", "limit_bytes", "scratch", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._spare: list[bytearray] = []
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def is_exhausted(self) -> bool:
        return self.used_bytes >= self.limit_bytes

    def wait(self, resume: Callable[[], None]) -> None:
        """``resume`` is called once some connection has given memory back."""
        self._waiting.append(resume)

    def acquire(self, size_bytes: int) -> bytearray:
        """A buffer of at least ``size_bytes``; its content is undefined."""
        for index, spare in enumerate(self._spare):
            if len(spare) >= size_bytes:
                del self._spare[index]
                self.used_bytes += len(spare)
                return spare
        buffer = bytearray(max(size_bytes, MIN_PRIVATE_BYTES))
        self.used_bytes += len(buffer)
        return buffer

    def release(self, buffer: bytearray) -> None:
        self.used_bytes -= len(buffer)
        if len(buffer) <= SPARE_BYTES_MAX and len(self._spare) < SPARE_COUNT:
            self._spare.append(buffer)
        while self._waiting and not self.is_exhausted:
            self._waiting.popleft()()


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

    def writable(self) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._view[self._end :]

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
        """The frame that was given last is to be given again."""
        self._start -= SIZE_PREFIX_BYTES + len(frame)

    def settle(self) -> None:
        """Makes room for the next read: what is left moves out of the scratch, or to the front, or is grown."""
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
        doubled = max(2 * held, MIN_PRIVATE_BYTES)
        if held < SIZE_PREFIX_BYTES:
            return doubled
        size = int.from_bytes(self._view[self._start : self._start + SIZE_PREFIX_BYTES], "big")
        frame = size + SIZE_PREFIX_BYTES
        return doubled if frame <= held else min(doubled, max(frame, MIN_PRIVATE_BYTES))

    def close(self) -> None:
        """Gives the private buffer back."""
        self._release_private()
        self._view = self._memory.scratch
        self._start = self._end = 0

    def _release_private(self) -> None:
        if self._private is not None:
            private, self._private = self._private, None
            self._memory.release(private)
