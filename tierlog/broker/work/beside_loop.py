"""Opens (decompresses) batches in a few threads beside the loop, in slices.

A malicious batch may take long to open. So the threads are few, each piece of work has a deadline, and work that has had
its ``SLICE_S`` waits behind the others.

Bounds: ``THREADS``; one entry in their queue for each Produce and ``LOOKUPS_AT_ONCE`` for each ListOffsets in process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import structlog

from tierlog.log.files.filesystem import storage_error
from tierlog.log.timestamps import Question, TimestampedOffset
from tierlog.records.batch import InvalidBatch
from tierlog.telemetry.logs import OncePerMinute

T = TypeVar("T")
THREADS = 2
SLICE_S = 0.02

logger = structlog.get_logger()


class BesideLoop:
    """A small pool of threads; ``close`` ends them. ``held_bytes``: size of the requests that stay in memory while their
    batches wait to be opened; ``held_max_bytes`` is its bound."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, held_max_bytes: int = 0) -> None:
        self._loop = loop
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix=name)
        self.held_bytes = 0
        self.held_max_bytes = held_max_bytes

    async def finish(self, steps: Generator[None, None, T], deadline_s: float) -> T:
        """Runs ``steps`` to their end in a thread. Raises TimeoutError at the deadline, and whatever the steps raise."""
        try:
            async with asyncio.timeout_at(deadline_s):
                while True:
                    done = await self._loop.run_in_executor(self._executor, _advance, steps)
                    if done:
                        return done[0]
        finally:
            with suppress(ValueError):  # a thread is running the steps: they are dropped after its slice
                steps.close()

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


class TimeLookups(BesideLoop):
    """Answers ListOffsets lookups by timestamp."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, "time-lookup")
        self._warnings = OncePerMinute()

    async def answer(self, question: Question, deadline_s: float) -> TimestampedOffset | None:
        """The answer to ``question``. Raises InvalidBatch for a stored batch that cannot be opened, StorageError, and
        TimeoutError at the deadline."""
        try:
            steps = next(question)
            while True:
                steps = question.send(await self.finish(steps, deadline_s))
        except StopIteration as end:
            found: TimestampedOffset | None = end.value
            return found
        except TimeoutError:
            raise  # TimeoutError is an OSError
        except OSError as error:
            raise storage_error(error, error.filename or "a segment") from error

    def complain(self, partition: str, error: InvalidBatch) -> None:
        """Logs that a stored batch cannot be opened, once a minute for each partition."""
        if self._warnings.allow(partition, time.monotonic()):
            logger.error("a stored batch cannot be opened", partition=partition, why=str(error))


def _advance(steps: Generator[None, None, T]) -> tuple[T] | None:
    """Runs one slice; returns (value,) once the steps have ended."""
    until_s = time.monotonic() + SLICE_S
    try:
        while time.monotonic() < until_s:
            next(steps)
    except StopIteration as end:
        return (end.value,)
    return None
