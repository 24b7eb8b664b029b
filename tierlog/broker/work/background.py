"""One life cycle for all that runs beside the requests: every task of the broker starts here, and none ends unnoticed.

Three kinds:

* ``forever``: a task that must not end. When it fails or ends, that is logged and counted, and it starts again after a
  pause; where that is not safe (``vital``), the broker stops with one line.
* ``job``: a task that ends by itself. A bug in it is logged and counted, and it runs again, since its work is not done.
* ``ask``: a task whose outcome its caller awaits; it is only kept alive here, since the loop holds tasks weakly.

A cancellation that did not come from here counts as a failure: a task that awaits a future is cancelled with it when
somebody else cancels that future. With ``TIERLOG_FATAL_BUGS`` every one of these failures ends the process (``bugs``).

Bound: one ``job`` or ``forever`` per thing that needs one, and its owner starts no second one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tierlog.broker import bugs

PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 30.0
# A task that ran for longer than this before it failed starts again after the shortest pause.
CALM_S = 60.0
CLOSE_S = 10.0

Run = Callable[[], Coroutine[Any, Any, None]]
OnOver = Callable[[], None] | None
OnFatal = Callable[[BaseException], None] | None
T = TypeVar("T")


class Ended(Exception):
    """A task that must not end has ended."""


class Kept:
    """One ``forever`` or ``job``."""

    def __init__(
        self,
        name: str,
        run: Run,
        *,
        ends: bool,
        vital: OnFatal = None,
        again: bool = True,
        on_over: OnOver = None,
    ) -> None:
        # "kind", or "kind: which".
        self.name = name
        self.kind = name.partition(":")[0]
        self.run = run
        self.ends = ends
        self.vital = vital
        self.is_repeated = again
        self.on_over = on_over
        self.is_over = False
        self.is_released = False
        self.pause_s = PAUSE_MIN_S
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Ends the task without reporting it."""
        self.is_released = True
        if self.task is not None:
            self.task.cancel()

    async def wait(self) -> None:
        """Waits until the task is over."""
        while not self.is_over and self.task is not None:
            if self.task.done() and self.is_released:
                return  # between two runs
            await asyncio.wait([self.task])
            # One turn of the loop for ``_on_end``: afterwards the task is over, or is to start again.
            await asyncio.sleep(0)
            if not self.is_over and self.task.done():
                await asyncio.sleep(PAUSE_MIN_S)

    async def drain(self) -> None:
        """Waits for a task that has been told to end and ends by itself."""
        self.is_released = True
        await self.wait()

    async def stop(self) -> None:
        self.cancel()
        await self.wait()


class Background:
    """All tasks of one broker. ``close`` is its last call."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked: set[asyncio.Task[Any]] = set()
        self._is_closed = False
        self.kept: set[Kept] = set()
        # Kind → how often a task of it failed, or ended although it must not.
        self.failures: Counter[str] = Counter()

    def forever(self, name: str, run: Run, *, vital: OnFatal = None) -> Kept:
        """``run()`` must not end before ``Kept.cancel``. With ``vital``, a failure calls ``vital(why)`` and starts nothing
        again."""
        return self._keep(Kept(name, run, ends=False, vital=vital))

    def job(self, name: str, run: Run, *, again: bool = True, on_over: OnOver = None) -> Kept:
        """``run()`` ends when it is done. ``again=False`` where another run after a bug could do harm. ``on_over()`` is
        called when the job is over for good."""
        return self._keep(Kept(name, run, ends=True, again=again, on_over=on_over))

    def ask(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task whose outcome the caller looks at; nothing is reported here."""
        task = self._loop.create_task(work, name=name)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        return task

    async def close(self) -> None:
        """Cancels what is left and waits for it, ``CLOSE_S`` at most."""
        self._is_closed = True
        tasks = [kept.task for kept in self.kept if kept.task is not None] + list(self._asked)
        for kept in self.kept:
            kept.is_released = True
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)

    # -- inside

    def _keep(self, kept: Kept) -> Kept:
        self.kept.add(kept)
        self._begin(kept)
        return kept

    def _begin(self, kept: Kept) -> None:
        kept.task = self._loop.create_task(self._run(kept), name=kept.name)
        kept.task.add_done_callback(lambda task: self._on_end(kept, task))

    async def _run(self, kept: Kept) -> None:
        while True:
            began_s = self._loop.time()
            try:
                await kept.run()
                if kept.ends:
                    # In this very step, so that the owner's next look may start another job.
                    kept.is_over = True
                    return
                error: BaseException = Ended(f"{kept.name} has ended")
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    raise
                error = Ended(f"{kept.name}: what it waited for was cancelled")
            except Exception as bug:
                error = bug
            if kept.is_released:
                return
            if not self._notice(kept, error):
                return
            if self._loop.time() - began_s > CALM_S:
                kept.pause_s = PAUSE_MIN_S
            await asyncio.sleep(kept.pause_s)
            kept.pause_s = min(2 * kept.pause_s, PAUSE_MAX_S)

    def _notice(self, kept: Kept, error: BaseException) -> bool:
        """Reports a failure. Returns whether the task is to start again."""
        self.failures[kept.kind] += 1
        bugs.report("a background task has failed", error, task=kept.name)
        if kept.vital is not None:
            kept.vital(error)
        return kept.is_repeated and kept.vital is None

    def _on_end(self, kept: Kept, task: asyncio.Task[None]) -> None:
        is_meant = kept.is_released or self._is_closed or not task.cancelled()
        if not is_meant and self._notice(kept, Ended(f"{kept.name} was cancelled")):
            self._loop.call_later(kept.pause_s, self._begin_again, kept)
            return
        self._over(kept)

    def _begin_again(self, kept: Kept) -> None:
        if kept.is_released or self._is_closed:
            self._over(kept)
        else:
            self._begin(kept)

    def _over(self, kept: Kept) -> None:
        kept.is_over = True
        self.kept.discard(kept)
        if kept.on_over is not None:
            kept.on_over()
