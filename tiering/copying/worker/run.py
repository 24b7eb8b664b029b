"""One run of the worker process, as its broker sees it: from its start to its end."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from tiering.copying.port import ClassOf, Target
from tiering.copying.source import SegmentSource
from tiering.copying.worker import counts
from tiering.copying.worker.channel import Channel
from tiering.copying.worker.messages import (
    BadMessage,
    CopyWorkerEnded,
    Message,
    copy_frame,
    entry_of,
    error_of,
)
from tiering.model import SegmentEntry
from tiering.objects.measured import StoreStats
from tiering.tasks import begin

END_S = 3.0
"""For a worker that was told to end: it aborts its uploads first, and tells of these requests."""


class Broker(Protocol):
    """What a run asks of whoever has started it."""

    url: str
    program: str
    """The module that is the worker."""
    jobs_max: int
    stats: StoreStats
    clock_ms: Callable[[], int]
    take: Callable[[int], Awaitable[object]]
    """Waits until so many bytes may be sent to the store."""

    def is_over(self, run: Run, why: str | None) -> None:
        """The process has ended; ``why`` is None if it was told to."""
        ...

    def has_room(self, run: Run) -> None:
        """A job of it has ended."""
        ...


@dataclass(slots=True)
class _Job:
    """``entry`` is what its caller awaits. A cancelled one stays until the worker has answered."""

    class_of: ClassOf
    entry: asyncio.Future[SegmentEntry]
    taking: asyncio.Future[None] | None = field(default=None)


class Run:
    """Its jobs, by number; ``CopyWorkerEnded`` is raised in those that it does not survive."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._jobs: dict[int, _Job] = {}
        self._last_number = 0
        self._told = StoreStats()
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._is_ending = False
        self._patience: asyncio.TimerHandle | None = None
        """Until a worker that was told to end is heard no more."""
        self._started: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
        self._serving = begin(self._serve())

    @property
    def takes_jobs(self) -> bool:
        return not self._is_ending

    @property
    def job_count(self) -> int:
        return len(self._jobs)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def copy(self, source: SegmentSource, target: Target, class_of: ClassOf) -> SegmentEntry:
        """Raises as ``Copier.copy``, and ``CopyWorkerEnded``. There must be room for one more job."""
        assert len(self._jobs) < self._broker.jobs_max
        loop = asyncio.get_running_loop()
        self._last_number += 1
        number = self._last_number
        job = self._jobs[number] = _Job(class_of, loop.create_future())
        channel = None
        try:
            # Beside the loop: a segment may have very many aborted transactions.
            data = await loop.run_in_executor(None, copy_frame, number, source, target)
            channel = await asyncio.shield(self._started)
            channel.send(data)
            return await job.entry
        except BaseException:
            if channel is None:
                self._finish(number)
            elif number in self._jobs:
                channel.say("cancel", job=number)
            raise

    def end(self) -> None:
        """The process ends once its input does. What it still tells of its requests is heard."""
        self._is_ending = True
        if self._channel is not None and self._patience is None:
            self._channel.end()
            self._patience = asyncio.get_running_loop().call_later(END_S, self._channel.close)

    async def ended(self) -> None:
        """Waits for its end."""
        await asyncio.wait([self._serving])

    # -- the process

    async def _serve(self) -> None:
        why: str | None = "could not be started"
        try:
            channel = await self._start()
            why = None
            while (message := await channel.receive()) is not None:
                self._hear(message)
        except Exception as error:  # whatever it says, it costs this run only
            why = f"{why or 'was ended'}: {type(error).__name__}: {error}"
        was_told = self._is_ending and why is None
        self._is_ending = True
        status = await self._reaped()
        why = None if was_told else why or _how(status)
        self._fail_all(why)
        counts.give_up(self._broker.stats, self._told)
        self._broker.is_over(self, why)

    async def _start(self) -> Channel:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    self._broker.program,
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                )
            except BaseException:
                ours.close()
                raise
        channel = self._channel = await Channel.over(ours)
        channel.say("open", url=self._broker.url, jobs_max=self._broker.jobs_max)
        self._started.set_result(channel)
        if self._is_ending:
            self.end()
        return channel

    async def _reaped(self) -> int:
        """Its exit status. Killed if it does not end by itself: nothing more is heard of it."""
        if self._patience is not None:
            self._patience.cancel()
        if self._channel is not None:
            self._channel.close()
        process = self._process
        if process is None:
            return 0
        try:
            async with asyncio.timeout(END_S):
                return await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            return await process.wait()

    # -- what it says

    def _hear(self, message: Message) -> None:
        if message.say == "counts":
            counts.add(self._broker.stats, message.header["verbs"])
            counts.add(self._told, message.header["verbs"])
            self._broker.stats.accounts.hear(message.header["accounts"])
            return
        job = self._jobs.get(message.job)
        if job is None:
            raise BadMessage(f"nobody has asked for copy {message.job}")
        match message.say:
            case "scanned":
                self._choose_class(message, job)
            case "take" if job.taking is None or job.taking.done():
                job.taking = begin(self._grant(message.job, message.header["size_bytes"]))
            case "done" | "failed":
                self._settle(message, job)
            case _:
                raise BadMessage(f"copy {message.job} says {message.say}")

    def _choose_class(self, message: Message, job: _Job) -> None:
        assert self._channel is not None
        told = message.header
        try:
            storage_class = job.class_of(told["timestamp_ms"], told["data_bytes"])
        except Exception as error:
            if not job.entry.done():
                job.entry.set_exception(error)
            self._channel.say("cancel", job=message.job)
            return
        created_ms = self._broker.clock_ms()
        self._channel.say("class", job=message.job, storage_class=int(storage_class), created_ms=created_ms)

    async def _grant(self, number: int, size_bytes: int) -> None:
        await self._broker.take(size_bytes)
        assert self._channel is not None
        self._channel.say("granted", job=number)

    def _settle(self, message: Message, job: _Job) -> None:
        told = message.header
        if not job.entry.done():
            if message.say == "done":
                job.entry.set_result(entry_of(told["entry"]))
            else:
                job.entry.set_exception(error_of(told["error"]))
        self._finish(message.job)

    def _finish(self, number: int) -> None:
        job = self._jobs.pop(number, None)
        if job is None:
            return
        if job.taking is not None:
            job.taking.cancel()
        self._broker.has_room(self)

    def _fail_all(self, why: str | None) -> None:
        error = CopyWorkerEnded(f"the process that copies segments {why or 'was told to end'}")
        waiting: list[asyncio.Future[SegmentEntry] | asyncio.Future[Channel]]
        waiting = [self._started, *(job.entry for job in self._jobs.values())]
        for each in waiting:
            if not each.done():
                each.set_exception(error)
                each.exception()  # retrieved, so that asyncio does not warn where nobody waits any more
        for number in list(self._jobs):
            self._finish(number)


def _how(status: int) -> str:
    """An exit status in words; after a negative one a signal's name."""
    if status >= 0:
        return f"ended by itself (exit status {status})"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
