"""Schedules the tiering jobs: one job per led partition at a time, started when there may be something to do.

Rules:

* A tick looks at every led partition in constant time. A partition gets a job only if it has sealed data behind its tiered
  end, or if its regular check is due.
* A failing partition backs off by itself (0.5 s doubling to 30 s; bad local bytes: 5 min) and never holds up others.
  A failure that all of them share is logged once a minute.
* Copies take turns (``tiering.copying.turns``). A job that must wait for one ends: so deletes, heads and the start of the
  log wait for one copy of their own partition at most, whatever the others have to copy.
* When leadership is lost, the job is cancelled and ``Partition.remote`` becomes None. An object that the job was writing is
  an orphan, which the next leader deletes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from tiering.copying.source import CorruptSource
from tiering.errors import TieringError
from tiering.ledger.rows import Cause
from tiering.manifest import ManifestWorkerFailed
from tiering.metering.attribution import attributed
from tiering.sweeping.sweeps import Sweeps
from tierlog.broker.offload.heads import Fenced, HeadMoved, HeadStore
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.offload.work import RETRIED, TierWork
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.background import Background, Kept
from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of
from tierlog.errors import ErrorCode, StorageError, StoreUnavailable, UnknownOutcome
from tierlog.telemetry.tier_counters import TierCounters

logger = structlog.get_logger()

TICK_S = 0.2
IDLE_RECHECK_MS = 1_000
BACKOFF_MIN_MS = 500
BACKOFF_MAX_MS = 30_000
CORRUPT_BACKOFF_MS = 300_000
LOG_START_TIMEOUT_S = 10.0
TASKS_PER_SWEEP_RETRY = 2
"""A sweep is tried again after a minute, where tasks come every 30 s as by default."""


class Offload:
    """The scheduler; implements ``ReplicaObserver``, and ``LogStart`` for ``Replicas``."""

    def __init__(
        self,
        work: TierWork,
        heads: HeadStore,
        cluster_id: str,
        counters: TierCounters,
        background: Background,
        *,
        now_ms: Callable[[], int],
        check_interval_ms: int,
        sweep_interval_ms: int,
        is_own_store: Callable[[str], bool],
    ) -> None:
        """``is_own_store``: whether a topic's store is the brokers' own."""
        self.work = work
        self.is_bucket_ours = False
        """The cluster marker was put into the brokers' own store, or found there: until then heads are read, and nothing is
        written there. Stores of topics are looked at when they are opened."""
        self._is_own_store = is_own_store
        self._heads = heads
        self._background = background
        self._cluster_id = cluster_id
        self._counters = counters
        self._now_ms = now_ms
        self._check_interval_ms = check_interval_ms
        self._sweep_interval_ms = sweep_interval_ms
        self._tiers: dict[Partition, PartitionTier] = {}
        self._jobs: set[Kept] = set()
        self._warnings = RepeatedWarnings()
        work.on_copy_turn = self._on_copy_turn

    @property
    def tiers(self) -> list[PartitionTier]:
        """The tiers of all partitions led here with remote storage."""
        return list(self._tiers.values())

    def tier_of(self, partition: Partition) -> PartitionTier | None:
        """The tier of a partition that is led here."""
        return self._tiers.get(partition)

    def may_write(self, tier: PartitionTier) -> bool:
        """Whether its store is known to be ours, or says so itself when it is opened."""
        return self.is_bucket_ours or not self._is_own_store(tier.store)

    # -- ReplicaObserver

    def on_lead(self, partition: Partition) -> None:
        if not partition.config.remote_storage_enable or partition.config.is_compacted:
            return
        counters = self._counters.bind(partition.topic_partition.topic)
        retry_ms = TASKS_PER_SWEEP_RETRY * self._check_interval_ms
        sweeps = Sweeps(retry_min_ms=retry_ms, idle_ms=self._sweep_interval_ms)
        tier = PartitionTier(partition, self._cluster_id, self._heads, counters, sweeps)
        self._tiers[partition] = tier
        partition.remote = tier
        self._start_job(tier)

    def on_resign(self, partition: Partition) -> None:
        tier = self._tiers.pop(partition, None)
        partition.remote = None
        if tier is None:
            return
        self.work.leave_copying(tier)
        self._counters.release(partition.topic_partition.topic)
        if tier.job is not None:
            tier.job.cancel()

    def on_reconfigured(self, partition: Partition) -> None:
        tier = self._tiers.get(partition)
        if tier is not None and tier.store != self._heads.store_of(partition.topic_id):
            self.on_resign(partition)  # it has nothing in the former store: begun anew, for the new one
            self.on_lead(partition)
        elif tier is not None:
            tier.next_try_ms = tier.next_check_ms = tier.next_ladder_ms = tier.ladder_offset = 0
        elif partition.leader is not None:
            self.on_lead(partition)

    # -- LogStart

    async def commit_log_start(self, partition: Partition, offset: int) -> ErrorCode:
        """Commits the new log start to the tier head. Nobody sees the new start, and nothing is deleted, before that."""
        tier = self._tiers.get(partition)
        if tier is None:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        try:
            async with asyncio.timeout(LOG_START_TIMEOUT_S):
                await tier.loaded.wait()
                while True:
                    try:
                        await tier.commit(lambda head: head.with_start(offset, self._now_ms()))
                    except (HeadMoved, UnknownOutcome) as error:
                        if isinstance(error, UnknownOutcome):
                            tier.sweeps.doubted(self._now_ms())
                        with attributed(Cause.RECOVERY):
                            await self.work.load(tier)
                        continue
                    return ErrorCode.NONE
        except Fenced:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        except TimeoutError:
            return ErrorCode.REQUEST_TIMED_OUT
        except (StoreUnavailable, TieringError) as error:
            logger.warning(
                "cannot commit a log start", partition=str(partition.topic_partition), why=str(error)
            )
            return ErrorCode.KAFKA_STORAGE_ERROR

    # -- turns

    async def run(self) -> None:
        """Runs for ever; cancel it to stop, then call ``close``."""
        while True:
            await asyncio.sleep(TICK_S)
            now_ms = self._now_ms()
            for tier in self.tiers:
                if tier.job is None and self._is_due(tier, now_ms):
                    self._start_job(tier)

    async def close(self) -> None:
        """Cancels the jobs; the next start takes up or cleans up their unfinished work."""
        self.work.on_copy_turn = self.work.leave_copying
        for job in self._jobs:
            job.cancel()
        for job in self._jobs:
            await job.wait()

    def wake(self, partition: Partition) -> None:
        """Has the next tick look at the partition: a segment was sealed, or a limit changed."""
        tier = self._tiers.get(partition)
        if tier is not None:
            tier.next_try_ms = 0

    def _is_due(self, tier: PartitionTier, now_ms: int) -> bool:
        partition = tier.partition
        if now_ms < tier.next_try_ms or partition.offline is not None:
            return False
        if not tier.is_loaded or now_ms >= tier.next_check_ms:
            return True
        if self.work.awaits_copy_turn(tier):
            return False  # it is told; until then only its regular check is due
        end = tier.end_offset
        return partition.log.active_base_offset > end and partition.last_stable_offset > end

    def _start_job(self, tier: PartitionTier) -> None:
        # Not restarted by itself: the next tick starts another job, if the partition is still led.
        over = partial(self._job_is_over, tier)
        tier.job = self._background.job(f"tier: {tier}", partial(self._work, tier), again=False, on_over=over)
        self._jobs = {job for job in self._jobs if not job.is_over} | {tier.job}

    def _on_copy_turn(self, tier: PartitionTier) -> None:
        if self._tiers.get(tier.partition) is not tier:
            self.work.leave_copying(tier)
        elif tier.job is None:
            self._start_job(tier)  # else the end of the job sees it

    def _job_is_over(self, tier: PartitionTier) -> None:
        if tier.job is not None and tier.job.is_over:
            tier.job = None

    async def _work(self, tier: PartitionTier) -> None:
        # Before the work, so that a wake during it counts. Where copies are delayed, each look would find the same segments
        # too young.
        is_patient = tier.partition.config.delays_copies
        tier.next_try_ms = self._now_ms() + (self._check_interval_ms if is_patient else IDLE_RECHECK_MS)
        try:
            if not tier.is_loaded or (tier.pages.lost and self._now_ms() >= tier.next_check_ms):
                with attributed(Cause.RECOVERY):
                    await self.work.load(tier)  # a lost page may have been brought back
            await self.work.mend(tier)
            while self.may_write(tier) and await self.work.step(tier):
                pass
            while self.may_write(tier) and await self._move_classes(tier):
                while await self.work.step(tier):
                    pass
            now_ms = self._now_ms()
            if tier.failures:
                self._warnings.say(logger.info, "tiering works again", None, partition=str(tier))
            tier.failures = 0
            tier.next_check_ms = now_ms + self._check_interval_ms
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.work.leave_copying(tier)
            self.failed(tier, error)
        finally:
            tier.job = None
        if self.work.has_copy_turn(tier):
            self._on_copy_turn(tier)

    async def _move_classes(self, tier: PartitionTier) -> bool:
        with attributed(Cause.CLASS_MOVE):
            return await self.work.class_moves.step(tier)

    def failed(self, tier: PartitionTier, error: Exception) -> None:
        """Logs the error of a job or a sweep and sets the time of the next try. A bug pauses this partition's tier, and not
        the broker."""
        tier.failures += 1
        backoff_ms = min(BACKOFF_MIN_MS * 2 ** min(tier.failures - 1, 10), BACKOFF_MAX_MS)
        if isinstance(error, HeadMoved | UnknownOutcome):
            tier.loaded.clear()  # the head must be read again before anything else
            backoff_ms = 0
            if isinstance(error, UnknownOutcome):
                backoff_ms = BACKOFF_MIN_MS
                tier.sweeps.doubted(self._now_ms())
            logger.info("reading the tier head again", partition=str(tier), why=str(error))
        elif isinstance(error, Fenced):
            logger.info(
                "cannot commit to the tier: no longer the leader", partition=str(tier), why=str(error)
            )
        elif isinstance(error, CorruptSource | StorageError):
            backoff_ms = CORRUPT_BACKOFF_MS
            logger.error("a local segment cannot be copied", partition=str(tier), why=str(error))
        elif isinstance(error, (*RETRIED, TieringError, ManifestWorkerFailed)):
            self._warnings.say(
                logger.warning,
                "tiering will be tried again",
                kind_of(error),
                partition=str(tier),
                in_ms=backoff_ms,
                kind=kind_of(error),
                why=str(error),
            )
        else:
            logger.error("tiering failed", partition=str(tier), exc_info=error)
            backoff_ms = BACKOFF_MAX_MS
        tier.next_try_ms = self._now_ms() + backoff_ms
