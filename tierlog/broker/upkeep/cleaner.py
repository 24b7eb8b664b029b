"""Runs compaction: the dirtiest log that is due, one at a time, in slices in a worker thread.

Rules: a compacted segment is swapped in on the loop, between two slices; retention and truncation leave a log alone while it
is being compacted (``log.removals``). While the disk reserve is reached, a log is compacted only if its new segments surely
fit beside the old ones: the other space is left to retention and disk relief. A log with a corrupt batch is logged as an
error and not compacted again until the restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog

from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.replicas.hosted import Replicas
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import DiskFull, StorageError
from tierlog.log.compaction.output import CleanedSegment
from tierlog.log.compaction.run import CompactionRun, compaction_run, plan_of
from tierlog.log.removals import COMPACTION
from tierlog.records.batch import InvalidBatch

logger = structlog.get_logger()

END = object()
BACKOFF_MIN_MS = 10


class Cleaner:
    """One per broker; ``run`` until cancelled."""

    def __init__(
        self,
        replicas: Replicas,
        loop: asyncio.AbstractEventLoop,
        now_ms: Callable[[], int],
    ) -> None:
        self._replicas = replicas
        self._loop = loop
        self._now_ms = now_ms
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="cleaner")
        self._untrusted: set[Partition] = set()
        self.run_count = 0
        self.read_bytes = 0
        self.written_bytes = 0
        self._reconfigured = asyncio.Event()
        replicas.follow_config(lambda config: self._reconfigured.set())

    async def run(self) -> None:
        while True:
            if not await self.clean_dirtiest():
                await self._pause()

    async def _pause(self) -> None:
        """Waits for ``log.cleaner.backoff.ms``, which may change meanwhile."""
        began_s = self._loop.time()
        while (left_s := began_s + self._backoff_s() - self._loop.time()) > 0:
            self._reconfigured.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._reconfigured.wait(), left_s)

    def _backoff_s(self) -> float:
        # A backoff of 0 must not starve the rest of the loop.
        return max(self._replicas.config.log_cleaner_backoff_ms, BACKOFF_MIN_MS) / 1000

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def clean_dirtiest(self) -> bool:
        """Compacts the log with the largest dirty ratio; False if none is due."""
        partition = self._dirtiest()
        if partition is None:
            return False
        log_dir = partition.log_dir
        run = compaction_run(
            partition.log,
            log_dir.cleaner_offsets.get(partition.topic_partition),
            partition.high_watermark,
            self._now_ms(),
            self._replicas.config.log_cleaner_dedupe_buffer_size,
        )
        if run is None:
            return False
        try:
            with partition.log.removals.hold(COMPACTION):
                await self._drive(partition, run)
            log_dir.cleaner_offsets[partition.topic_partition] = run.end_offset
            await self._loop.run_in_executor(self._executor, log_dir.write_cleaner_offsets)
        except InvalidBatch as error:
            self._untrusted.add(partition)
            logger.error(
                "compaction found a corrupt batch", partition=str(partition.topic_partition), why=str(error)
            )
        except DiskFull as error:
            logger.warning(
                "cannot compact: disk full", partition=str(partition.topic_partition), why=str(error)
            )
            return False
        except StorageError as error:
            # If the topic was deleted meanwhile, its files are gone: the disk has not failed.
            if self._is_hosted(partition):
                self._replicas.on_storage_error(partition, error)
        return True

    def _dirtiest(self) -> Partition | None:
        due: list[tuple[float, Partition]] = []
        now_ms = self._now_ms()
        for partition in self._replicas:
            has_role = partition.leader is not None or partition.follower is not None
            if (
                partition.offline
                or partition.log.removals.are_held
                or not has_role
                or not partition.config.is_compacted
            ):
                continue
            checkpoint = partition.log_dir.cleaner_offsets.get(partition.topic_partition)
            plan = plan_of(partition.log, checkpoint, partition.high_watermark, now_ms)
            if plan is None or not plan.is_due or partition in self._untrusted:
                continue
            if self._has_room(partition.log_dir, plan.clean_bytes + plan.dirty_bytes):
                due.append((plan.dirty_ratio, partition))
        return max(due, key=lambda found: found[0])[1] if due else None

    @staticmethod
    def _has_room(log_dir: LogDir, size_bytes: int) -> bool:
        return not log_dir.reserve_reached or log_dir.space().usable_bytes > 2 * size_bytes

    async def _drive(self, partition: Partition, run: CompactionRun) -> None:
        steps = run.steps()
        try:
            while True:
                step = await self._loop.run_in_executor(self._executor, _next, steps)
                if step is END:
                    break
                if isinstance(step, CleanedSegment):
                    if not self._is_hosted(partition):
                        break
                    self._replicas.unlink_later(partition.log.replace_segments([step], self._now_ms()))
        finally:
            await self._loop.run_in_executor(self._executor, _close, steps)
        if run.stats.unreadable_batches_count:
            logger.warning(
                "compaction kept batches that cannot be opened",
                partition=str(partition.topic_partition),
                batches=run.stats.unreadable_batches_count,
            )
        self.run_count += 1
        self.read_bytes += run.stats.read_bytes
        self.written_bytes += run.stats.written_bytes

    def _is_hosted(self, partition: Partition) -> bool:
        return self._replicas.by_name(*partition.topic_partition) is partition and partition.offline is None


def _next(steps: Iterator[CleanedSegment | None]) -> object:
    return next(steps, END)


def _close(steps: Iterator[CleanedSegment | None]) -> None:
    close = getattr(steps, "close", None)
    if close is not None:
        close()
