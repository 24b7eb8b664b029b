"""The consumer's end of a watch: an ordered queue of batches that falls back to the log when it cannot
follow.

A watch is *lagging* until it has read the log up to the store's present revision; then live batches are queued. When
the queue is full the watch lags again: live batches are skipped, and once the queue is drained the log is read from
where the queue ended. So memory is bounded and nothing is lost, unless the log itself was trimmed meanwhile
(``Compacted``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from tierlog.metadata.transactions import WatchBatch

MAX_QUEUED_BATCHES = 4096


class QueuedWatch:
    """``read_log(watch, from_revision)`` makes the store answer with ``history`` or ``fail``, now or later, in order
    with its calls of ``live``."""

    def __init__(
        self,
        prefixes: Sequence[str],
        from_revision: int,
        read_log: Callable[[QueuedWatch, int], None],
        forget: Callable[[QueuedWatch], None],
    ) -> None:
        self._prefixes = tuple(prefixes)
        self._next_revision = from_revision
        self._read_log = read_log
        self._forget = forget
        self._batches: deque[WatchBatch] = deque()
        self._is_lagging = True
        self._is_reading = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_closed = False

    def __aiter__(self) -> AsyncIterator[WatchBatch]:
        return self

    async def __anext__(self) -> WatchBatch:
        while not self._batches:
            if self._error is not None:
                raise self._error
            if self._is_closed:
                raise StopAsyncIteration
            if self._is_lagging and not self._is_reading:
                self._is_reading = True
                self._read_log(self, self._next_revision)
                continue
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._batches.popleft()

    def close(self) -> None:
        self._is_closed = True
        self._batches.clear()
        self._forget(self)
        self._wake()

    # -- called by the store

    def live(self, batch: WatchBatch) -> None:
        """A revision was just committed."""
        if self._is_lagging or batch.revision < self._next_revision:
            return
        if len(self._batches) >= MAX_QUEUED_BATCHES:
            self._is_lagging = True
            return
        self._offer(batch)

    def history(self, batches: Sequence[WatchBatch], end_revision: int, *, is_complete: bool) -> None:
        """The log from the requested revision up to ``end_revision`` (inclusive); ``is_complete``: that is the
        present one."""
        self._is_reading = False
        for batch in batches:
            if batch.revision >= self._next_revision:
                self._offer(batch)
        self._next_revision = max(self._next_revision, end_revision + 1)
        self._is_lagging = not is_complete
        self._wake()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._wake()

    def _offer(self, batch: WatchBatch) -> None:
        self._next_revision = batch.revision + 1
        events = tuple(e for e in batch.events if e.key.startswith(self._prefixes))
        if events:
            self._batches.append(WatchBatch(batch.revision, events))
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._waiter = None
