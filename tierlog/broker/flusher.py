"""Group commit: partitions whose ``flush.mode`` is ``ack`` are synced to disk in rounds, off the loop.

A round takes every partition that asked since the last one. Few of them are synced file by file on a few threads;
many are synced with one ``syncfs`` of their file system, which costs one journal commit instead of one a file.

Rules: an error of a sync is never retried (the kernel may have dropped the pages): the log directory is failed.
Bounds: one round at a time, one entry per partition, ``THREADS`` threads.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from tierlog.errors import StorageError

THREADS = 4
SYNCFS_FROM_FILES = 6

_libc = ctypes.CDLL(None, use_errno=True)


class Plan(Protocol):
    """What must reach the disk; see log.FlushPlan."""

    def run(self) -> None:
        """Blocks until it is there. Raises StorageError."""


class Flushable(Protocol):
    """What a partition offers to be synced."""

    def begin_flush(self) -> Plan | None:
        """None where nothing is dirty any more."""

    def end_flush(self, plan: Plan) -> None:
        """The plan's bytes are durable."""

    def fail_flush(self, error: StorageError) -> None:
        """The sync failed: nothing since the last success may be called durable."""


def sync_file_system(descriptor: int) -> None:
    """Blocks until everything on the file system of ``descriptor`` is on disk. Raises StorageError."""
    if _libc.syncfs(descriptor) != 0:
        error = ctypes.get_errno()
        raise StorageError(f"syncfs: {os.strerror(error)}")


class Flusher:
    """Runs the rounds of one broker."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, log_dirs: Sequence[str], on_round: Callable[[float, int], None]
    ) -> None:
        self._loop = loop
        self._on_round = on_round
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="flush")
        self._dirs = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in log_dirs]
        self._dirty: dict[int, Flushable] = {}
        self._running = 0
        self._scheduled = False

    def request(self, partition: Flushable) -> None:
        """``partition`` has bytes that somebody waits to see on disk."""
        self._dirty[id(partition)] = partition
        if not self._running and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._start_round)

    def _start_round(self) -> None:
        self._scheduled = False
        if self._running or not self._dirty:
            return
        dirty = list(self._dirty.values())
        self._dirty.clear()
        plans = [(partition, plan) for partition in dirty if (plan := partition.begin_flush()) is not None]
        if len(plans) < SYNCFS_FROM_FILES:
            groups = [[planned] for planned in plans]
        else:
            groups = [plans]
        self._running = len(groups)
        for group in groups:
            self._sync(group)

    def _sync(self, group: list[tuple[Flushable, Plan]]) -> None:
        began_s = self._loop.time()
        future = self._loop.run_in_executor(self._executor, self._run, [plan for _, plan in group])

        def done(ended: asyncio.Future[None]) -> None:
            self._running -= 1
            error = ended.exception()
            self._on_round(self._loop.time() - began_s, len(group))
            for partition, plan in group:
                if error is None:
                    partition.end_flush(plan)
                else:
                    partition.fail_flush(StorageError(f"sync failed: {error}"))
            if not self._running:
                self._start_round()

        future.add_done_callback(done)

    def _run(self, plans: Sequence[Plan]) -> None:
        if len(plans) == 1:
            plans[0].run()
            return
        for descriptor in self._dirs:
            sync_file_system(descriptor)

    async def drain(self) -> None:
        """Waits until nothing is dirty; for a clean stop."""
        while self._dirty or self._running or self._scheduled:
            await asyncio.sleep(0.001)
        self._executor.shutdown(wait=True)
        for descriptor in self._dirs:
            os.close(descriptor)
