"""Tickets that wait for an offset of one partition to be committed (Kafka's purgatory, without futures).

``park`` is called in append order, so the queue is sorted by offset and releasing is O(released).
Bound: as many as produce requests wait, which the connections bound; those that ended without being released are gone once
they are as many as the others (``note_ended``).
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar


class Ticket(Protocol):
    """Who waits."""

    @property
    def has_ended(self) -> bool:
        """It waits no more: its time was over, or its client is gone."""


TicketT = TypeVar("TicketT", bound=Ticket)
# So many ended ones are no matter.
ENDED_MAX = 64


class OffsetWaiters(Generic[TicketT]):
    """FIFO of (required end offset, ticket)."""

    __slots__ = ("_ended_count", "_queue")

    def __init__(self) -> None:
        self._queue: deque[tuple[int, TicketT]] = deque()
        self._ended_count = 0

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

    def note_ended(self) -> None:
        """One of the tickets here has ended. O(1), on the average."""
        self._ended_count += 1
        if self._ended_count > ENDED_MAX and 2 * self._ended_count > len(self._queue):
            self._queue = deque(entry for entry in self._queue if not entry[1].has_ended)
            self._ended_count = 0

    def release(self, high_watermark: int) -> list[TicketT]:
        """Tickets whose records lie below the high watermark, in append order; some of them may have ended."""
        queue = self._queue
        released: list[TicketT] = []
        while queue and queue[0][0] <= high_watermark:
            released.append(queue.popleft()[1])
        return released

    def drain(self) -> list[TicketT]:
        """Everything, for a partition that is no longer led here."""
        released = [ticket for _, ticket in self._queue]
        self._queue.clear()
        self._ended_count = 0
        return released
