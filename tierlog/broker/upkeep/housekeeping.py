"""A broker's periodic work on its logs: retention, unlinking, checkpoints, writeback, the disk reserve.

Each duty is a small synchronous decision on the loop; its I/O runs in one worker thread, so at most one such job runs at a
time. Duties run one after another; a duty that fails is logged and tried again at its next turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, overload

import structlog

from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.replicas.hosted import Replicas, remove
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.upkeep.disk_relief import DiskRelief
from tierlog.broker.work.background import Background, Kept
from tierlog.config.broker import BrokerConfig
from tierlog.errors import DiskFull, StorageError
from tierlog.log import retention
from tierlog.log.retention import SegmentFacts
from tierlog.log.segments import Segments

TICK_S = 0.5
RESERVE_CHECK_S = 0.5
UNLINK_CHECK_S = 1.0
FLUSH_CHECK_S = 1.0
FOR_EVER_MS = 2**63 - 1

logger = structlog.get_logger()


class Duty(NamedTuple):
    """``run`` every ``interval_s``."""

    name: str
    interval_s: float
    run: Callable[[], Awaitable[None]]


class Housekeeping:
    """One per broker; ``run`` until cancelled."""

    def __init__(
        self,
        config: BrokerConfig,
        replicas: Replicas,
        loop: asyncio.AbstractEventLoop,
        now_ms: Callable[[], int],
        background: Background,
    ) -> None:
        self._background = background
        self._config = config
        self._replicas = replicas
        self._loop = loop
        self._now_ms = now_ms
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="housekeeping")
        self._relief = DiskRelief(replicas, now_ms)
        self._writebacks: set[int] = set()
        self._cuts: list[tuple[Partition, int]] = []
        self._cut_task: Kept | None = None
        self.duties = [
            Duty("disk reserve", RESERVE_CHECK_S, self._watch_reserve),
            Duty("unlink", UNLINK_CHECK_S, self._unlink),
            Duty("checkpoint", checkpoint_interval_ms(config) / 1000, self.checkpoint),
            Duty("retention", config.log_retention_check_interval_ms / 1000, self.retain),
            Duty("flush by time", flush_check_s(config), self._flush_by_time),
            Duty(
                "producer expiry",
                config.producer_id_expiration_check_interval_ms / 1000,
                self._expire_producers,
            ),
        ]

    async def run(self) -> None:
        began_s = self._loop.time()
        due_s = {duty.name: began_s + duty.interval_s for duty in self.duties}
        initial_delay_s = self._config.log_initial_task_delay_ms / 1000
        due_s["retention"] = min(due_s["retention"], began_s + initial_delay_s)
        while True:
            await asyncio.sleep(TICK_S)
            now_s = self._loop.time()
            for duty in self.duties:
                if now_s < due_s[duty.name]:
                    continue
                due_s[duty.name] = now_s + duty.interval_s
                try:
                    await duty.run()
                except (StorageError, OSError) as error:
                    logger.error("housekeeping failed", duty=duty.name, why=str(error))

    def close(self) -> None:
        if self._cut_task is not None:
            self._cut_task.cancel()
        self._executor.shutdown(wait=True)

    # -- retention

    async def retain(self) -> None:
        """Applies local retention to every log; logs led here are rolled first if ``segment.ms`` has passed."""
        for partition in self._replicas:
            if partition.offline is not None or partition.log.removals.are_held:
                continue
            if partition.leader is not None:
                self._roll_if_due(partition)
                self.retain_partition(partition)
                await asyncio.sleep(0)
            elif partition.follower is not None:
                self._retain_follower(partition)

    def on_tiered(self, partition: Partition) -> None:
        """Applies local retention after a segment was committed to the tier. Does not roll: each roll would lead to another
        commit."""
        self.retain_partition(partition, may_roll=False)

    def retain_partition(self, partition: Partition, *, may_roll: bool = True) -> int:
        """Deletes the expired segments of one local log; returns their number."""
        if partition.offline is not None or partition.log.removals.are_held:
            return 0
        try:
            deleted, is_roll_due = self._delete_expired(partition)
            if is_roll_due and may_roll:
                partition.log.roll(self._now_ms())
                deleted += self._delete_expired(partition)[0]
        except DiskFull as error:
            partition.log_dir.on_disk_full()
            logger.warning(
                "cannot apply retention: disk full", partition=str(partition.topic_partition), why=str(error)
            )
            return 0
        except StorageError as error:
            self._replicas.on_storage_error(partition, error)
            return 0
        return deleted

    def _retain_follower(self, partition: Partition) -> None:
        """Deletes a follower's segments below its leader's log start, and those that the tier is known to hold by the
        topic's local retention."""
        log = partition.log
        if partition.tiered_end_offset is not None:
            self.retain_partition(partition)
            return
        if log.segments.first.end_offset > log.log_start_offset or not log.size_bytes:
            return
        try:
            if log.log_end_offset <= log.log_start_offset:
                log.roll(self._now_ms())
            self._replicas.unlink_later(log.delete_segments_below(log.log_start_offset, self._now_ms()))
        except StorageError as error:
            self._replicas.on_storage_error(partition, error)

    def _roll_if_due(self, partition: Partition) -> None:
        self._roll(partition, partition.log.roll_if_due)

    def seal(self, partition: Partition) -> None:
        """Rolls the log, whatever ``segment.ms`` says."""
        self._roll(partition, partition.log.roll)

    def _roll(self, partition: Partition, roll: Callable[[int], object]) -> None:
        try:
            roll(self._now_ms())
        except DiskFull as error:
            partition.log_dir.on_disk_full()
            logger.warning("cannot roll: disk full", partition=str(partition.topic_partition), why=str(error))
        except StorageError as error:
            self._replicas.on_storage_error(partition, error)

    def _delete_expired(self, partition: Partition) -> tuple[int, bool]:
        """Deletes the expired sealed segments. Returns their number, and whether the active segment has expired too and must
        be rolled to go. A follower rolls it only if it may go at once: its leader decides what is copied."""
        log, now_ms = partition.log, self._now_ms()
        remote = partition.remote
        tiered_end = partition.tiered_end_offset
        if remote is not None and remote.is_loaded:
            tiered_end = remote.end_offset
        decision = retention.decide(
            LocalFacts(log.segments, now_ms),
            partition.config,
            log_start_offset=log.log_start_offset,
            high_watermark=partition.high_watermark,
            now_ms=now_ms,
            tiered_end_offset=tiered_end,
            size_bytes=log.size_bytes,
        )
        if decision.delete_count:
            self._replicas.unlink_later(log.delete_segments_below(decision.delete_end_offset, now_ms))
        may_go_at_once = log.log_end_offset <= max(tiered_end or 0, log.log_start_offset)
        return decision.delete_count, decision.roll_active and (
            partition.leader is not None or may_go_at_once
        )

    # -- files

    async def _unlink(self) -> None:
        due = self._replicas.due_unlinks(self._now_ms())
        if due:
            await self._loop.run_in_executor(self._executor, remove, due)

    async def checkpoint(self) -> None:
        """Writes the checkpoints. A directory with an I/O error goes offline; a full one just keeps its old checkpoints."""
        await self._checkpoint()

    async def _checkpoint(self) -> dict[LogDir, StorageError]:
        self._replicas.gather_checkpoints()
        failures = await self._loop.run_in_executor(self._executor, self._replicas.write_checkpoints)
        for log_dir, error in failures.items():
            if isinstance(error, DiskFull):
                logger.error("cannot write checkpoints: disk full", log_dir=str(log_dir.path), why=str(error))
            else:
                self._replicas.fail_dir(log_dir, error)
        return failures

    def on_cut_synced(self, partition: Partition, cut: int) -> None:
        """A follower's log was cut. Before it fetches again, the recovery point on the disk must be at or below the cut;
        else the next recovery would trust what was written since. Many cuts share one checkpoint."""
        self._cuts.append((partition, cut))
        if self._cut_task is None or self._cut_task.is_over:
            self._cut_task = self._background.job("checkpoint of cuts", self._checkpoint_cuts)

    async def _checkpoint_cuts(self) -> None:
        while self._cuts:
            count = len(self._cuts)
            failures = await self._checkpoint()
            # Only now: if the checkpoint raises, the cuts still wait for the next one.
            cuts, self._cuts = self._cuts[:count], self._cuts[count:]
            for partition, cut in cuts:
                error = failures.get(partition.log_dir)
                if error is None:
                    partition.cut_is_durable(cut)
                else:
                    self._replicas.on_storage_error(partition, error)

    async def _watch_reserve(self) -> None:
        for log_dir in self._replicas.log_dirs:
            if not log_dir.is_online:
                continue
            if log_dir.watch_reserve():
                if log_dir.reserve_reached:
                    logger.error("disk reserve reached: produce is refused", log_dir=str(log_dir.path))
                else:
                    logger.info("disk has room again", log_dir=str(log_dir.path))
            if log_dir.wanted_bytes:
                await self._make_room(log_dir)
            if log_dir.has_some_room:
                self._replicas.open_waiting()

    async def _make_room(self, log_dir: LogDir) -> None:
        """Frees space by the topics' retention; if that is not enough, by deleting segments that the tier has too."""
        await self.retain()
        self._replicas.hurry_unlinks()
        await self._unlink()
        if self._relief.relieve(log_dir):
            self._replicas.hurry_unlinks()
            await self._unlink()

    # -- durability

    def on_writeback_due(self, partition: Partition) -> None:
        """Starts writeback of one log in the thread, so that dirty pages stay bounded."""
        plan = partition.log.writeback_plan()
        if plan is None or id(partition) in self._writebacks:
            return
        self._writebacks.add(id(partition))
        future = self._loop.run_in_executor(self._executor, plan.run)
        future.add_done_callback(lambda _: self._writebacks.discard(id(partition)))

    async def _flush_by_time(self) -> None:
        now_ms = self._now_ms()
        for partition in self._replicas:
            if partition.offline is None and (
                partition.is_flush_due(now_ms) or partition.log.snapshots.pending
            ):
                partition.flusher.request(partition)

    async def _expire_producers(self) -> None:
        now_ms, expiration_ms = self._now_ms(), self._replicas.config.producer_id_expiration_ms
        for partition in self._replicas:
            if partition.offline is None:
                partition.log.producers.expire(now_ms, expiration_ms)


def checkpoint_interval_ms(config: BrokerConfig) -> int:
    """The shortest of the three configured intervals: all offsets of a log directory are checkpointed together."""
    return min(
        config.replica_high_watermark_checkpoint_interval_ms,
        config.log_flush_offset_checkpoint_interval_ms,
        config.log_flush_start_offset_checkpoint_interval_ms,
    )


def flush_check_s(config: BrokerConfig) -> float:
    """How often ``flush.ms`` is checked. Kafka's default is never, with which the topic config would have no effect."""
    interval_ms = config.log_flush_scheduler_interval_ms
    return FLUSH_CHECK_S if interval_ms == FOR_EVER_MS else interval_ms / 1000


class LocalFacts(Sequence[SegmentFacts]):
    """The facts of a log's segments, made only for those that are asked for: a log may have many thousands."""

    def __init__(self, segments: Segments, now_ms: int) -> None:
        self._segments = segments
        self._now_ms = now_ms

    def __len__(self) -> int:
        return len(self._segments)

    @overload
    def __getitem__(self, index: int) -> SegmentFacts: ...
    @overload
    def __getitem__(self, index: slice) -> list[SegmentFacts]: ...
    def __getitem__(self, index: int | slice) -> SegmentFacts | list[SegmentFacts]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        segment = self._segments[index]
        timestamp_ms = segment.trusted_timestamp_ms(self._now_ms)
        return SegmentFacts(segment.base_offset, segment.end_offset, segment.size_bytes, timestamp_ms)
