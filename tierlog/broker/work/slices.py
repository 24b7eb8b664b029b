"""Long work on one request in slices, so that nothing holds the loop for long.

The work is a generator of *steps*: it yields wherever the loop may go on with other things, between two items and never
between reading a state and changing it. Short work runs to its end at once and costs a few comparisons.

Rules:

* work that is not done after ``AT_ONCE_S`` waits in one queue. The first ``IN_TURN`` in the queue take turns of ``SLICE_S``,
  one per turn of the loop, so that only ``IN_TURN`` such requests use memory at a time;
* all the work of one turn of the loop shares ``AT_ONCE_S``: a hundred requests that arrive together hold the loop no longer
  than one. So do the requests of connections that have sent several;
* work whose future is cancelled is dropped.

Bound: one piece of work per request in process, and each connection has one of those.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from time import perf_counter
from typing import Any, TypeAlias, TypeVar, cast

from tierlog.broker.work.delayed_response import DelayedResponse

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]
Held: TypeAlias = Callable[[float], None]

AT_ONCE_S = 0.004
SLICE_S = 0.004
IN_TURN = 2


class Unfinished:
    """Stands for the result of work that has not come to its end."""


UNFINISHED = Unfinished()


def _untold(seconds: float) -> None:
    pass


class Work(DelayedResponse[T]):
    """Steps in the queue, and their result when they are done."""

    __slots__ = ("held", "steps")

    def __init__(self, steps: Steps[T], held: Held) -> None:
        super().__init__()
        self.steps = steps
        self.held = held


class Slices:
    """One per loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: deque[Work[Any]] = deque()
        self._active: deque[Work[Any]] = deque()
        # Until when the work of this turn of the loop may go on (``perf_counter``); 0 where no work has begun in it.
        self._due_s = 0.0

    def __len__(self) -> int:
        """How many pieces of work wait for their turn."""
        return len(self._active) + len(self._queue)

    def at_once(self, steps: Steps[T]) -> T | Unfinished:
        """The result, if the steps end within this turn's share; else UNFINISHED, and the steps stay where they are."""
        return advance(steps, self._due())

    def has_time(self) -> bool:
        """Whether this turn of the loop has time for something that may as well wait for the next."""
        return perf_counter() < self._due()

    def later(self, steps: Steps[T], held: Held = _untold) -> DelayedResponse[T]:
        """Queues the steps. ``held(seconds)`` is called with the length of each slice."""
        work = Work(steps, held)
        is_first = not len(self)
        self._queue.append(work)
        if is_first:
            self._loop.call_soon(self._turn)
        return work

    async def run(self, steps: Steps[T]) -> T:
        """Runs the steps for a coroutine; cancelling it drops them."""
        found = self.at_once(steps)
        if not isinstance(found, Unfinished):
            return found
        work = self.later(steps)
        arrived: asyncio.Future[None] = self._loop.create_future()

        def arrive(work: DelayedResponse[T]) -> None:
            if not arrived.done():
                arrived.set_result(None)

        work.add_done_callback(arrive)
        try:
            await arrived
        finally:
            work.cancel()
        error = work.exception()
        if error is not None:
            raise error
        return cast("T", work.result())

    def _due(self) -> float:
        if not self._due_s:
            self._due_s = perf_counter() + AT_ONCE_S
            self._loop.call_soon(self._next_turn)
        return self._due_s

    def _next_turn(self) -> None:
        self._due_s = 0.0

    def _turn(self) -> None:
        active = self._active
        while self._queue and len(active) < IN_TURN:
            active.append(self._queue.popleft())
        work = active.popleft()
        if work.done():
            work.steps.close()
            self._go_on()
            return
        started_s = perf_counter()
        try:
            found = advance(work.steps, started_s + SLICE_S)
        except Exception as error:
            self._go_on()
            work.held(perf_counter() - started_s)
            if not work.done():
                work.set_exception(error)
            return
        if isinstance(found, Unfinished):
            active.append(work)
        self._go_on()
        work.held(perf_counter() - started_s)
        if not isinstance(found, Unfinished) and not work.done():
            work.set_result(found)

    def _go_on(self) -> None:
        if self._active or self._queue:
            self._loop.call_soon(self._turn)


async def in_slices(items: Iterable[T]) -> AsyncIterator[T]:
    """Iterates over ``items`` in a coroutine, and yields to the loop after each slice's time."""
    due_s = perf_counter() + SLICE_S
    for item in items:
        yield item
        if perf_counter() > due_s:
            await asyncio.sleep(0)
            due_s = perf_counter() + SLICE_S


def advance(steps: Steps[T], due_s: float) -> T | Unfinished:
    """Runs the steps to their end, or until ``due_s`` (of ``perf_counter``)."""
    try:
        while True:
            next(steps)
            if perf_counter() > due_s:
                return UNFINISHED
    except StopIteration as end:
        return cast("T", end.value)


def complete(steps: Steps[T]) -> T:
    """The result, however long it takes: for what is known to be short, and for tests."""
    found = advance(steps, float("inf"))
    assert not isinstance(found, Unfinished)
    return found
