"""Tickets that wait for an offset of one partition to be committed (Kafka's purgatory, without futures).

``park`` is called in append order, so the queue is sorted by offset and releasing is O(released).
Bound: one ticket per waiting produce request and partition; the connections bound those. Tickets that ended without being
released are removed once they outnumber the others (``note_ended``).
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeAlias, TypeVar


class Ticket(Protocol):
    """Something that waits for a commit."""

    @property
    def has_ended(self) -> bool:
        """Whether it has stopped waiting: its time was over, or its client is gone."""


TicketT = TypeVar("TicketT", bound=Ticket)
Entry: TypeAlias = tuple[int, TicketT, int]
# Ended tickets that are always tolerated in the queue.
ENDED_MAX = 64


class OffsetWaiters(Generic[TicketT]):
    """FIFO of (required end offset, ticket, number): the number says to the ticket which of its batches it was. The queue is
    there only while somebody waits: most partitions never have one."""

    __slots__ = ("_ended_count", "_queue")

    def __init__(self) -> None:
        self._queue: deque[Entry[TicketT]] | None = None
        self._ended_count = 0

    def __len__(self) -> int:
        return 0 if self._queue is None else len(self._queue)

    def park(self, end_offset: int, ticket: TicketT, number: int = 0) -> None:
        """``ticket`` is due once the high watermark reaches ``end_offset`` (exclusive end of the records it wrote).

        A repeated batch was first appended before batches that are parked already; it waits with the last of them.
        """
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        elif queue[-1][0] > end_offset:
            end_offset = queue[-1][0]
        queue.append((end_offset, ticket, number))

    def note_ended(self) -> None:
        """One of the tickets here has ended. Amortized O(1)."""
        self._ended_count += 1
        if self._ended_count > ENDED_MAX and 2 * self._ended_count > len(self):
            self._queue = deque(entry for entry in self._queue or () if not entry[1].has_ended) or None
            self._ended_count = 0

    def release(self, high_watermark: int) -> list[Entry[TicketT]]:
        """Those whose records lie below the high watermark, in append order; some of them may have ended."""
        queue = self._queue
        released: list[Entry[TicketT]] = []
        while queue and queue[0][0] <= high_watermark:
            released.append(queue.popleft())
        if not queue:
            self._queue = None
        return released

    def drain(self) -> list[Entry[TicketT]]:
        """Takes out all of them, for a partition that is no longer led here."""
        released = list(self._queue or ())
        self._queue = None
        self._ended_count = 0
        return released
