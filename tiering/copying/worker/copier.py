"""The ``Copier`` that has a process of its own: starts it with the first copy, ends it when idle, and again after it died.

* A worker that dies costs the copies under way, each of which raises ``CopyWorkerEnded``. It is told to ``on_death`` and
  counted, and the next one starts after a pause that doubles with every death, from 0.1 s to 30 s, until one has lived for a
  minute. Copies that come meanwhile wait.
* One that was idle for ``IDLE_S`` ends by itself, and is no death.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tiering.copying.port import ClassOf, Target, always_standard
from tiering.copying.source import SegmentSource
from tiering.copying.worker.messages import CopyWorkerEnded
from tiering.copying.worker.run import Run
from tiering.model import SegmentEntry
from tiering.objects.measured import StoreStats

PROGRAM = "tiering.copying.worker"
IDLE_S = 60.0
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 30.0
CALM_S = 60.0


class WorkerCopier:
    """One process at a time. ``url``: of the store, which the worker opens anew, with this process's environment.

    ``jobs_max``: copies that it does at once; others wait. ``stats``: where its requests are counted. ``take(bytes)``: waits
    until so many bytes may be sent. ``program``: the module that is run; see ``__main__``."""

    def __init__(
        self,
        url: str,
        *,
        jobs_max: int,
        stats: StoreStats,
        clock_ms: Callable[[], int],
        take: Callable[[int], Awaitable[object]],
        on_death: Callable[[str, float], object],
        idle_s: float = IDLE_S,
        program: str = PROGRAM,
    ) -> None:
        self.url = url
        self.program = program
        self.jobs_max = jobs_max
        self.stats = stats
        self.clock_ms = clock_ms
        self.take = take
        self.death_count = 0
        self._on_death = on_death
        self._idle_s = idle_s
        self._run: Run | None = None
        self._ending: set[Run] = set()
        self._turns = asyncio.Semaphore(jobs_max)
        self._idle: asyncio.TimerHandle | None = None
        self._pause_s = 0.0
        self._begun_s = self._not_before_s = 0.0
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._run is None else self._run.pid

    async def copy(
        self, source: SegmentSource, target: Target, class_of: ClassOf = always_standard
    ) -> SegmentEntry:
        """See ``Copier.copy``; raises ``CopyWorkerEnded`` too."""
        await self._turns.acquire()  # the end of the job gives it back
        try:
            run = await self._running()
        except BaseException:
            self._turns.release()
            raise
        return await run.copy(source, target, class_of)

    async def close(self) -> None:
        """Ends the process and waits for it."""
        self._is_closed = True
        self._stop_idling()
        runs = {*self._ending, *([] if self._run is None else [self._run])}
        for run in runs:
            run.end()
        for run in runs:
            await run.ended()

    async def _running(self) -> Run:
        self._stop_idling()
        while self._run is None or not self._run.takes_jobs:
            if self._is_closed:
                raise CopyWorkerEnded("the process that copies segments was told to end")
            now_s = asyncio.get_running_loop().time()
            if now_s < self._not_before_s:
                await asyncio.sleep(self._not_before_s - now_s)
                continue
            if self._run is not None:
                self._ending.add(self._run)
            self._begun_s = now_s
            self._run = Run(self)
        return self._run

    # -- what a run tells

    def has_room(self, run: Run) -> None:
        """See ``run.Broker``."""
        self._turns.release()
        if run is self._run and not run.job_count:
            self._stop_idling()
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._end_idle, run)

    def is_over(self, run: Run, why: str | None) -> None:
        """See ``run.Broker``."""
        self._ending.discard(run)
        if run is self._run:
            self._run = None
        if why is None:
            return
        self.death_count += 1
        now_s = asyncio.get_running_loop().time()
        was_calm = now_s - self._begun_s >= CALM_S
        self._pause_s = PAUSE_MIN_S if was_calm else min(max(PAUSE_MIN_S, 2 * self._pause_s), PAUSE_MAX_S)
        self._not_before_s = now_s + self._pause_s
        self._on_death(why, self._pause_s)

    def _end_idle(self, run: Run) -> None:
        if not run.job_count:
            run.end()

    def _stop_idling(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
