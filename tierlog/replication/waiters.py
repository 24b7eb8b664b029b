"""Tickets that wait for an offset of one partition to be committed (Kafka's purgatory, without futures).

``park`` is called in append order, so the queue is sorted by offset and releasing is O(released).
Bound: one entry per produce request in flight, which the connections bound.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

TicketT = TypeVar("TicketT")


class OffsetWaiters(Generic[TicketT]):
    """FIFO of (required end offset, ticket)."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: deque[tuple[int, TicketT]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def park(self, end_offset: int, ticket: TicketT) -> None:
        """``ticket`` is due once the high watermark reaches ``end_offset`` (exclusive end of what it wrote).

        A repeated batch, whose first try was appended before what is parked already, waits with the last of it.
        """
        queue = self._queue
        if queue and queue[-1][0] > end_offset:
            end_offset = queue[-1][0]
        queue.append((end_offset, ticket))

    def release(self, high_watermark: int) -> list[TicketT]:
        """Tickets whose records lie below the high watermark, in append order."""
        queue = self._queue
        released: list[TicketT] = []
        while queue and queue[0][0] <= high_watermark:
            released.append(queue.popleft()[1])
        return released

    def drain(self) -> list[TicketT]:
        """Everything, for a partition that is no longer led here."""
        released = [ticket for _, ticket in self._queue]
        self._queue.clear()
        return released
