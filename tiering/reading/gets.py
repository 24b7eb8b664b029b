"""Ranged GETs as the read path issues them: adaptive concurrency, demand first, a hedge for stragglers.

* AIMD: the number of concurrent GETs grows by one per round of successes and halves when the store throttles.
* Demand loads go before read-ahead.
* Hedge: a GET that takes much longer than most is sent a second time, and the first answer wins; at most
  ``HEDGE_SHARE`` of all GETs, so that hedges cannot become the load.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from tiering.errors import Throttled, Unavailable
from tiering.objects.port import Buffer, ObjectStore
from tiering.tasks import begin

CONCURRENCY_START = 48  # A Fetch of 20 cold partitions, with a chunk and a footer each, then takes one round.
CONCURRENCY_MAX = 64
HEDGE_SAMPLES = 64
HEDGE_SAMPLES_MIN = 16
HEDGE_AFTER_MIN_S = 0.05
HEDGE_SHARE = 0.05


@dataclass(slots=True)
class GetStats:
    """Counters since the start."""

    get_count: int = 0
    hedge_count: int = 0
    error_count: int = 0
    fetched_bytes: int = 0


class RangedGets:
    """All GETs of one reader."""

    def __init__(self, store: ObjectStore, *, concurrency_max: int = CONCURRENCY_MAX) -> None:
        self.stats = GetStats()
        self._store = store
        self._limit = float(min(CONCURRENCY_START, concurrency_max))
        self._limit_max = concurrency_max
        self._running = 0
        self._demand: deque[asyncio.Future[None]] = deque()
        self._ahead: deque[asyncio.Future[None]] = deque()
        self._seconds: deque[float] = deque(maxlen=HEDGE_SAMPLES)
        self._hedge_after_s = 0.0

    async def get_range(self, key: str, start: int, end: int, *, is_ahead: bool) -> memoryview:
        """The bytes [start, end) of the object; errors as in the port."""
        await self._enter(is_ahead)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            data = await self._hedged(key, start, end)
        except Exception as e:
            self.stats.error_count += 1
            if isinstance(e, Throttled | Unavailable):
                self._limit = max(1.0, self._limit / 2)
            raise
        finally:
            self._running -= 1
            self._admit()
        self._limit = min(self._limit + 1 / self._limit, self._limit_max)
        self._note(loop.time() - began)
        self.stats.fetched_bytes += end - start
        return memoryview(data)

    @property
    def concurrency_limit(self) -> int:
        return int(self._limit)

    async def _enter(self, is_ahead: bool) -> None:
        if self._running < int(self._limit) and not self._demand:
            self._running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._ahead if is_ahead else self._demand
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._running -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._running < int(self._limit):
            queue = self._demand or self._ahead
            if not queue:
                return
            turn = queue.popleft()
            if not turn.done():
                self._running += 1
                turn.set_result(None)

    async def _hedged(self, key: str, start: int, end: int) -> Buffer:
        self.stats.get_count += 1
        first = begin(self._store.get_range(key, start, end))
        if not self._hedge_after_s:
            return await first
        tasks = [first]
        try:
            done, _ = await asyncio.wait(tasks, timeout=self._hedge_after_s)
            if done or self.stats.hedge_count >= HEDGE_SHARE * self.stats.get_count:
                return await first
            self.stats.hedge_count += 1
            tasks.append(begin(self._store.get_range(key, start, end)))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            winner = next((t for t in tasks if t in done and t.exception() is None), None)
            return await (winner or next(t for t in tasks if t not in done or len(done) == len(tasks)))
        finally:
            for task in tasks:
                if not task.done():
                    task.cancel()
                elif not task.cancelled():
                    task.exception()

    def _note(self, seconds: float) -> None:
        self._seconds.append(seconds)
        if len(self._seconds) >= HEDGE_SAMPLES_MIN and self.stats.get_count % HEDGE_SAMPLES_MIN == 0:
            p95 = sorted(self._seconds)[int(0.95 * (len(self._seconds) - 1))]
            self._hedge_after_s = max(1.5 * p95, HEDGE_AFTER_MIN_S)
