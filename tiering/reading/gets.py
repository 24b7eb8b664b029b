"""Ranged GETs as the read path issues them: how many at once, demand first, retries, the fetch quota, hedges.

* Every attempt is seen here: the limit of GETs at once halves when the store throttles or does not answer, and a GET that
  pauses before its next attempt takes no part of the limit.
* Demand takes its turn before read-ahead, also what began as read-ahead and is demanded by now.
* Above the quota (KIP-956) a GET waits, first come, first served, and is never refused. It counts once, however often it is
  tried. As long as there is a quota there are no hedges.

Decisions are in ``pacing``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from tiering.errors import ObjectStoreError, Throttled, Timeout, Unavailable
from tiering.objects.port import Buffer, ObjectStore
from tiering.objects.retrying import attempts_of
from tiering.objects.throttled import TokenBucket
from tiering.reading.pacing import CONCURRENCY_MAX, Concurrency, Hedging, RecentTimes
from tiering.tasks import begin

LEAVES_S = 0.05
"""A GET that nobody waits for any more goes on until it is so old: given up sooner, it might never have left, and would
count as a request all the same."""

IsAhead = Callable[[], bool]
"""Whether nobody waits for the bytes yet; asked again while the GET waits for its turn."""


def never_ahead() -> bool:
    """Somebody waits for the bytes."""
    return False


@dataclass(slots=True)
class GetStats:
    """Counters since the start."""

    get_count: int = 0
    """Attempts, hedges included."""
    hedge_count: int = 0
    hedge_win_count: int = 0
    retry_count: int = 0
    push_back_count: int = 0
    """Attempts that the store throttled or did not answer."""
    error_count: int = 0
    fetched_bytes: int = 0


class RangedGets:
    """All GETs of one reader, from one store."""

    def __init__(self, store: ObjectStore, *, concurrency_max: int = CONCURRENCY_MAX) -> None:
        self.stats = GetStats()
        self.throttle_times = RecentTimes()
        self._store, self._policy = attempts_of(store)
        self._concurrency = Concurrency(concurrency_max)
        self._hedging = Hedging()
        self._quota = TokenBucket(0)
        self._running = 0
        self._turns: dict[asyncio.Future[None], IsAhead] = {}
        self._rng = random.Random()

    async def get_range(self, key: str, start: int, end: int, *, is_ahead: IsAhead) -> memoryview:
        """The bytes [start, end) of the object; errors as in the port."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        if self._quota.is_limited:
            await self._quota.take(end - start)
            self.throttle_times.note(loop.time() - began_s, loop.time())
        until_s = loop.time() + self._policy.total_s
        attempt = 1
        while True:
            try:
                return memoryview(await self._attempt(key, start, end, is_ahead))
            except ObjectStoreError as error:
                pause_s = self._policy.pause_s(attempt, self._rng)
                may_retry = error.retriable and attempt < self._policy.attempts_max
                if not may_retry or loop.time() + pause_s > until_s:
                    self.stats.error_count += 1
                    raise
            attempt += 1
            self.stats.retry_count += 1
            await asyncio.sleep(pause_s)

    def set_rate(self, bytes_per_second: int) -> None:
        """The fetch quota; 0: none."""
        self._quota.set_rate(bytes_per_second)

    @property
    def concurrency_limit(self) -> int:
        return self._concurrency.limit

    @property
    def idle_share(self) -> float:
        """The part of the limit that no GET takes."""
        return max(0.0, 1 - self._running / self._concurrency.limit)

    # -- one attempt

    async def _attempt(self, key: str, start: int, end: int, is_ahead: IsAhead) -> Buffer:
        await self._enter(is_ahead)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            data = await self._hedged(key, start, end)
        except (Throttled, Timeout, Unavailable):
            self.stats.push_back_count += 1
            self._concurrency.pushed_back(began_s, loop.time())
            raise
        finally:
            self._leave()
        self._concurrency.succeeded()
        self._hedging.ended(end - start, loop.time() - began_s)
        return data

    async def _get(self, key: str, start: int, end: int) -> Buffer:
        self.stats.get_count += 1
        try:
            async with asyncio.timeout(self._policy.attempt_timeout_s):
                data = await self._store.get_range(key, start, end)
        except TimeoutError:
            raise Timeout("no answer to get_range", key=key) from None
        self.stats.fetched_bytes += len(data)
        if len(data) != end - start:
            raise Unavailable(f"{len(data)} of {end - start} bytes came", key=key)
        return data

    async def _hedged(self, key: str, start: int, end: int) -> Buffer:
        self._hedging.began()
        after_s = self._hedging.after_s(end - start)
        if self._quota.is_limited:
            after_s = None
        loop = asyncio.get_running_loop()
        tasks, began_s = [begin(self._get(key, start, end))], [loop.time()]
        try:
            done, _ = await asyncio.wait(tasks, timeout=after_s)
            if done or not self._may_hedge():
                await asyncio.wait(tasks)
                return tasks[0].result()
            self._running += 1
            try:
                self.stats.hedge_count += 1
                self._hedging.hedged()
                tasks.append(begin(self._get(key, start, end)))
                began_s.append(loop.time())
                has_won = await _first_good(tasks) == 1
                self.stats.hedge_win_count += has_won
                self._hedging.judged(has_won)
                return tasks[has_won].result()
            finally:
                self._leave()
        finally:
            while tasks:  # an error refers to this frame, which must not refer to it
                self._give_up(tasks.pop(), began_s.pop())

    def _give_up(self, task: asyncio.Future[Buffer], began_s: float) -> None:
        """Nobody waits for it any more. It keeps its part of the limit until it ends."""
        loop = asyncio.get_running_loop()
        left_s = began_s + LEAVES_S - loop.time()
        if left_s <= 0 or task.done():
            task.cancel()
            return
        self._running += 1
        task.add_done_callback(lambda _: self._leave())
        loop.call_later(left_s, task.cancel)

    def _may_hedge(self) -> bool:
        has_room = self._running < self._concurrency.limit and not self._turns
        return has_room and self._concurrency.is_calm(asyncio.get_running_loop().time())

    # -- turns

    async def _enter(self, is_ahead: IsAhead) -> None:
        if self._running < self._concurrency.limit and not self._turns:
            self._running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns[turn] = is_ahead
        try:
            await turn
        except asyncio.CancelledError:
            if self._turns.pop(turn, None) is None and not turn.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        self._running -= 1
        while self._turns and self._running < self._concurrency.limit:
            turn = next((turn for turn, is_ahead in self._turns.items() if not is_ahead()), None)
            turn = turn or next(iter(self._turns))
            del self._turns[turn]
            if not turn.done():
                self._running += 1
                turn.set_result(None)


async def _first_good(tasks: list[asyncio.Future[Buffer]]) -> int:
    """The number of the first task that succeeds; of one that failed, if none does."""
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for number, task in enumerate(tasks):
            if task in done and task.exception() is None:
                return number
    return 0
