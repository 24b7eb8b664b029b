"""The worker's side: carries out copies, and asks before it sends."""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from functools import partial

from tiering.copying.mover import Passes
from tiering.copying.port import Target
from tiering.copying.scan import WalkSegment
from tiering.copying.source import SegmentSource
from tiering.copying.worker.channel import Channel
from tiering.copying.worker.counts import Telling
from tiering.copying.worker.messages import (
    BadMessage,
    Message,
    copy_of,
    entry_fields,
    error_fields,
)
from tiering.ledger.rows import Cause
from tiering.metering.attribution import attributed
from tiering.model import SegmentEntry
from tiering.objects.classes import StorageClass
from tiering.objects.measured import StoreStats
from tiering.objects.opening import open_store
from tiering.tasks import begin

PARTS_AT_ONCE = 4
COUNTS_EVERY_S = 1.0
END_S = 2.0
"""For uploads to be aborted once the broker has gone."""


def serve(descriptor: int, walk_at_once: WalkSegment | None) -> None:
    """Until the other end closes; does not return."""
    asyncio.run(_serve(socket.socket(fileno=descriptor), walk_at_once))


async def _serve(end: socket.socket, walk_at_once: WalkSegment | None) -> None:
    worker = Worker(await Channel.over(end), walk_at_once)
    await worker.run()
    os._exit(0)  # Threads may still be in a system call: nobody waits for them.


class _Job:
    """``answer``: to what it asked last."""

    def __init__(self, task: asyncio.Future[SegmentEntry]) -> None:
        self.task = task
        self.answer: asyncio.Future[Message] | None = None


class Worker:
    """All copies of one broker. Bounds: ``jobs_max`` of them, one question each under way."""

    def __init__(self, channel: Channel, walk_at_once: WalkSegment | None) -> None:
        self._channel = channel
        self._walk_at_once = walk_at_once
        self._jobs: dict[int, _Job] = {}
        self._jobs_max = 0
        self._url = ""
        self._passes: Passes | None = None
        self._stats = StoreStats()
        self._telling = Telling(self._stats)
        self._stats.accounts.on_news = self._tell_soon

    async def run(self) -> None:
        telling = begin(self._tell_counts())
        try:
            while (message := await self._channel.receive()) is not None:
                self._hear(message)
        finally:
            telling.cancel()
            running = [job.task for job in self._jobs.values()]
            for task in running:
                _cancel(task)
            if running:
                await asyncio.wait(running, timeout=END_S)
            self._send_counts()
            await self._channel.close_heard()

    def _hear(self, message: Message) -> None:
        if message.say == "open":
            self._url, self._jobs_max = message.header["url"], message.header["jobs_max"]
            return
        number = message.job
        if message.say == "copy":
            if len(self._jobs) >= self._jobs_max or number in self._jobs:
                raise BadMessage(f"copy {number}, and {len(self._jobs)} are under way")
            task = begin(self._copied(number, *copy_of(message)))
            self._jobs[number] = _Job(task)
            task.add_done_callback(partial(self._over, number))
            return
        job = self._jobs.get(number)
        if job is None:
            return  # it has just ended
        if message.say == "cancel":
            _cancel(job.task)
        elif job.answer is not None and not job.answer.done():
            job.answer.set_result(message)

    async def _copied(self, number: int, source: SegmentSource, target: Target) -> SegmentEntry:
        with attributed(Cause.COPY):
            return await self._copied_by(self._opened(), number, source, target)

    async def _copied_by(
        self, passes: Passes, number: int, source: SegmentSource, target: Target
    ) -> SegmentEntry:
        scanned = await passes.scan(source)
        timestamp_ms, data_bytes = scanned.max_timestamp_ms, scanned.footer.data_bytes
        told = await self._ask(number, "scanned", timestamp_ms=timestamp_ms, data_bytes=data_bytes)
        return await passes.put(
            source,
            target,
            scanned,
            StorageClass(told.header["storage_class"]),
            told.header["created_ms"],
            lambda size_bytes: self._ask(number, "take", size_bytes=size_bytes),
        )

    def _opened(self) -> Passes:
        """Nothing is created: a directory that is not mounted must not be made anew. Raises ``Misconfigured``."""
        if self._passes is None:
            store = open_store(self._url, stats=self._stats, writes=False)
            self._passes = Passes(store, parts_at_once=PARTS_AT_ONCE, walk_at_once=self._walk_at_once)
        return self._passes

    async def _ask(self, number: int, what: str, **fields: int) -> Message:
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._jobs[number].answer = answer
        self._channel.say(what, job=number, **fields)
        return await answer

    def _over(self, number: int, task: asyncio.Future[SegmentEntry]) -> None:
        """Whatever becomes of a job, its end is told once."""
        del self._jobs[number]
        self._send_counts()
        if task.cancelled():
            self._channel.say("failed", job=number, error=error_fields(BadMessage("it was cancelled")))
        elif (error := task.exception()) is not None:
            trace = "".join(traceback.format_exception(error))
            self._channel.say("failed", job=number, error=error_fields(error, trace))
        else:
            self._channel.say("done", job=number, entry=entry_fields(task.result()))

    async def _tell_counts(self) -> None:
        while True:
            await asyncio.sleep(COUNTS_EVERY_S)
            self._send_counts()

    def _send_counts(self) -> None:
        news, accounts = self._telling.news(), self._stats.accounts.tell()
        if news or accounts:
            self._channel.say("counts", verbs=news, accounts=accounts)

    def _tell_soon(self) -> None:
        """At once: what is told survives this process."""
        asyncio.get_running_loop().call_soon(self._send_counts)


def _cancel(task: asyncio.Future[SegmentEntry]) -> None:
    """Once: a second time would cut off the abort of its upload."""
    assert isinstance(task, asyncio.Task)
    if not task.cancelling():
        task.cancel()
