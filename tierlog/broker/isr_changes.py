"""Carries the ISR changes that leaders propose to the metadata store, and reports what became of them.

A change is one guarded transaction; exactly one outcome is reported for each: applied, refused or unknown. Whoever
joins does so as soon as a fetch shows that it may; who lags is looked for every half ``replica.lag.time.max.ms``. A loop
that stood still can have heard nobody, so a late turn forgives all followers its delay.

Bound: one transaction in flight per led partition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from tierlog.broker.partition import Partition
from tierlog.broker.replicas import Replicas
from tierlog.errors import StoreUnavailable, UnknownOutcome
from tierlog.metadata.commits import joining_from_image, partition_change
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.isr import with_isr
from tierlog.metadata.store import MetadataStore, Txn
from tierlog.replication.isr_changes import IsrChange
from tierlog.replication.leader import Leader

TICK_S = 1.0
STALL_S = 1.0
RETRY_S = 1.0
# Looking for who lags gives the loop a turn after so many partitions.
SLICE = 200

logger = structlog.get_logger()


class IsrChangeDriver:
    """One per broker."""

    def __init__(
        self,
        broker_id: int,
        lag_time_max_ms: int,
        store: MetadataStore,
        image: Callable[[], MetadataImage],
        replicas: Replicas,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._broker_id = broker_id
        self._lag_time_max_ms = lag_time_max_ms
        self._store = store
        self._image = image
        self._replicas = replicas
        self._loop = loop
        self._writes: set[asyncio.Task[None]] = set()
        # Of IsrShrinksPerSec and IsrExpandsPerSec.
        self.shrink_count = 0
        self.expand_count = 0
        # Refused, or of unknown outcome; they are tried again.
        self.failed_count = 0

    async def run(self) -> None:
        """Until cancelled."""
        due_s = before_s = self._loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now_s = self._loop.time()
            late_s, before_s = now_s - before_s - TICK_S, now_s
            if late_s > STALL_S:
                self._forgive(int(late_s * 1000))
            if now_s < due_s:
                continue
            due_s = now_s + self._lag_time_max_ms / 2000
            for n, partition in enumerate(self._replicas, 1):
                if partition.leader is not None and not partition.leader.alone:
                    self.consider(partition)
                if n % SLICE == 0:
                    await asyncio.sleep(0)

    def _forgive(self, gap_ms: int) -> None:
        for partition in self._replicas:
            if partition.leader is not None:
                partition.leader.on_stall(gap_ms)

    async def close(self) -> None:
        """What is under way is given up: the next leader finds it done or not."""
        for task in list(self._writes):
            task.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)

    def consider(self, partition: Partition) -> None:
        """Writes the change that is due for a partition led here, if any."""
        leader, image = partition.leader, self._image()
        index = partition.topic_partition.partition
        state = image.partition(partition.topic_id, index)
        if leader is None or partition.offline is not None or state is None:
            return
        if state.partition_epoch != leader.partition_epoch:
            return  # the watch is still to show what was written last
        available = {b.broker_id: b.broker_epoch for b in image.brokers.values() if b.is_available}
        now_ms = int(self._loop.time() * 1000)
        change = leader.propose_isr_change(
            now_ms, self._lag_time_max_ms, partition.log.log_end_offset, available
        )
        if change is None:
            return
        guards = {b: joining_from_image(image, b, epoch) for b, epoch in change.joining.items()}
        txn = partition_change(
            partition.topic_id,
            index,
            state,
            with_isr(state, change.isr),
            broker_id=self._broker_id,
            broker_epoch=change.broker_epoch,
            joining={b: guard for b, guard in guards.items() if guard is not None},
        )
        task = self._loop.create_task(self._write(partition, leader, change, txn), name="isr change")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        partition.on_isr_changed(leader.advance())

    async def _write(self, partition: Partition, leader: Leader, change: IsrChange, txn: Txn) -> None:
        name = str(partition.topic_partition)
        before = leader.isr
        try:
            result = await self._store.txn(txn)
        except UnknownOutcome as error:
            leader.on_isr_change_unknown(change, self._now_ms())
            logger.warning("an ISR change has an unknown outcome", partition=name, why=str(error))
            self._again(partition)
            return
        except StoreUnavailable as error:
            moved = leader.on_isr_change_refused(change, change.partition_epoch, self._now_ms())
            logger.warning("an ISR change was not made", partition=name, why=str(error))
            self._again(partition)
        else:
            if result.ok:
                moved = leader.on_isr_change_applied(change, result.revision)
                self._told(name, before, change.isr)
            else:
                found = result.gets[0] if result.gets else None
                epoch = found.mod_revision if found is not None else change.partition_epoch
                moved = leader.on_isr_change_refused(change, epoch, self._now_ms())
                self._again(partition)
        if partition.leader is leader:
            partition.on_isr_changed(moved)

    def _told(self, name: str, before: frozenset[int], after: frozenset[int]) -> None:
        self.expand_count += bool(after - before)
        self.shrink_count += bool(before - after)
        logger.info("the ISR changed", partition=name, before=sorted(before), after=sorted(after))

    def _again(self, partition: Partition) -> None:
        self.failed_count += 1
        self._loop.call_later(RETRY_S, self.consider, partition)

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)
