"""Group commit: partitions whose ``flush.mode`` is ``ack`` are synced to disk in rounds, off the loop.

A round takes every partition that asked since the last round. Few partitions are synced file by file on a few threads;
many are synced with one ``syncfs`` of their file system, which costs one journal commit instead of one per file.

Rule: a sync that failed is never retried (the kernel may have dropped the pages): the log directory is failed.
Bounds: one round at a time, one entry per partition, ``THREADS`` threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Protocol, TypeAlias

from tierlog.broker import bugs
from tierlog.broker.work.slices import SLICE_S
from tierlog.errors import StorageError

THREADS = 4
SYNCFS_FROM_FILES = 6

_libc = ctypes.CDLL(None, use_errno=True)


class Plan(Protocol):
    """The bytes that must reach the disk; see log.FlushPlan."""

    def run(self) -> None:
        """Blocks until it is on the disk. Raises StorageError."""


class Flushable(Protocol):
    """A partition, as the flusher sees it."""

    @property
    def flush_root(self) -> str:
        """The log directory that it lies in: a sync that fails there fails no other directory."""

    def begin_flush(self) -> Plan | None:
        """None where nothing is dirty any more."""

    def end_flush(self, plan: Plan) -> None:
        """The plan's bytes are durable."""

    def fail_flush(self, error: StorageError) -> None:
        """The sync failed: nothing since the last success may be called durable."""


Planned: TypeAlias = "tuple[Flushable, Plan]"
# A log directory, and what is to be synced in it.
Group: TypeAlias = "tuple[str, list[Planned]]"


def sync_file_system(descriptor: int) -> None:
    """Blocks until everything on the file system of ``descriptor`` is on disk. Raises StorageError."""
    if _libc.syncfs(descriptor) != 0:
        error = ctypes.get_errno()
        raise StorageError(f"syncfs: {os.strerror(error)}")


class Flusher:
    """Runs the rounds of one broker.

    It has threads of its own, since a pool's futures cost several times the CPU of this work: a group goes in by one
    queue, and comes back by one call on the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, log_dirs: Sequence[str]) -> None:
        self._loop = loop
        self._dirs = {path: os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in log_dirs}
        self._dirty: dict[int, Flushable] = {}
        self._running = 0
        self._scheduled = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._groups: SimpleQueue[Group | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, name=f"flush-{n}", daemon=True) for n in range(THREADS)]
        for thread in self._threads:
            thread.start()

    @property
    def roots(self) -> tuple[str, ...]:
        return tuple(self._dirs)

    def request(self, partition: Flushable) -> None:
        """``partition`` has bytes that somebody waits to see on disk."""
        self._dirty[id(partition)] = partition
        if not self._running and not self._scheduled:
            self._scheduled = True
            self._idle.clear()
            self._loop.call_soon(self._start_round)

    def _start_round(self) -> None:
        self._scheduled = False
        dirty, self._dirty = self._dirty, {}
        # A partition that asks from now on is part of the next round.
        self._running = 1
        self._plan_some(iter(dirty.values()), {})

    def _plan_some(self, dirty: Iterator[Flushable], by_root: dict[str, list[Planned]]) -> None:
        """Plans a slice of the dirty partitions, since each may write a small file; the last slice starts the syncs."""
        due_s = perf_counter() + SLICE_S
        for partition in dirty:
            plan = partition.begin_flush()
            if plan is not None:
                by_root.setdefault(partition.flush_root, []).append((partition, plan))
            if perf_counter() > due_s:
                self._loop.call_soon(self._plan_some, dirty, by_root)
                return
        groups: list[Group] = []
        for root, plans in by_root.items():
            if len(plans) >= SYNCFS_FROM_FILES:
                groups.append((root, plans))
            else:
                groups += [(root, [planned]) for planned in plans]
        self._running = len(groups)
        if not groups:
            self._round_is_over()
        for group in groups:
            self._groups.put(group)

    def _work(self) -> None:
        while (group := self._groups.get()) is not None:
            error: StorageError | None = None
            try:
                self._sync(group[0], [plan for _, plan in group[1]])
            except StorageError as failure:
                error = failure
            except Exception as bug:
                # A thread that died in silence would hold up every acknowledgement, and the stop.
                bugs.report("a sync failed", bug, root=group[0])
                error = StorageError(f"a sync failed: {bug!r}")
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._done, group[1], error)
            # A thread that waits for work keeps no file open: a file that is deleted meanwhile would keep its space.
            group = None

    def _sync(self, root: str, plans: Sequence[Plan]) -> None:
        if len(plans) == 1:
            plans[0].run()
        else:
            sync_file_system(self._dirs[root])

    def _done(self, group: list[Planned], error: StorageError | None) -> None:
        self._end_some(iter(group), error)

    def _end_some(self, group: Iterator[Planned], error: StorageError | None) -> None:
        due_s = perf_counter() + SLICE_S
        for partition, plan in group:
            if error is None:
                partition.end_flush(plan)
            else:
                partition.fail_flush(error)
            if perf_counter() > due_s:
                self._loop.call_soon(self._end_some, group, error)
                return
        # Only now, so that a partition that asks again from within the loop above is part of the next round.
        self._running -= 1
        if not self._running:
            self._round_is_over()

    def _round_is_over(self) -> None:
        if self._dirty:
            self._start_round()
        else:
            self._idle.set()

    async def idle(self) -> None:
        """Returns once nothing waits to be synced."""
        await self._idle.wait()

    async def drain(self) -> None:
        """Waits until nothing is dirty, and ends the threads; for a clean stop."""
        await self._idle.wait()
        for _ in self._threads:
            self._groups.put(None)
        for thread in self._threads:
            thread.join()
        for descriptor in self._dirs.values():
            os.close(descriptor)
