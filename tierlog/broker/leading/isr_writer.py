"""Writes the ISR changes that leaders propose to the metadata store, and reports their outcomes to the leaders.

Changes travel in batches, each as a nested transaction with its own comparisons. Exactly one outcome is reported for each:
applied, refused or unknown. One change may be refused without the others; if the outcome of a batch is unknown, so is that
of each change in it. Changes that fall due in one turn of the loop, or while ``MAX_BATCHES`` are under way, share a batch.

A follower joins as soon as a fetch shows that it may. Lagging followers are looked for every half
``replica.lag.time.max.ms``. While the event loop stands still no fetch is heard, so its delay is forgiven to all followers.

Bounds: one change in flight per led partition, ``MAX_NESTED`` in a batch, ``MAX_BATCHES`` batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import structlog

from tierlog.broker import bugs
from tierlog.broker.clock import monotonic_ms
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.background import Background, Kept
from tierlog.errors import StoreUnavailable, UnknownOutcome
from tierlog.metadata.commits import Joining, joining_from_image, partition_change
from tierlog.metadata.control.isr import with_isr
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.records import PartitionState
from tierlog.metadata.stores.port import MetadataStore
from tierlog.metadata.transactions import MAX_NESTED, Txn, TxnResult
from tierlog.replication.isr_changes import IsrChange
from tierlog.replication.leader import Leader

TICK_S = 1.0
STALL_S = 1.0
RETRY_S = 1.0
# The search for lagging followers gives the loop a turn after so many partitions.
SLICE = 200
# Transactions under way, so that one slow answer does not hold up the rest.
MAX_BATCHES = 4

logger = structlog.get_logger()


class Due(NamedTuple):
    """A proposed change, and the state that it was decided on."""

    partition: Partition
    leader: Leader
    change: IsrChange
    state: PartitionState
    joining: Mapping[int, Joining]

    @property
    def is_wanted(self) -> bool:
        """False if a newer record came before the change was sent: it would be refused."""
        return self.partition.leader is self.leader and self.leader.changes.in_flight is self.change

    def txn(self, broker_id: int) -> Txn:
        partition, state = self.partition, self.state
        return partition_change(
            partition.topic_id,
            partition.topic_partition.partition,
            state,
            with_isr(state, self.change.isr),
            broker_id=broker_id,
            broker_epoch=self.change.broker_epoch,
            joining=self.joining,
        )


class IsrChangeDriver:
    """One per broker."""

    def __init__(
        self,
        broker_id: int,
        lag_time_max_ms: int,
        store: MetadataStore,
        image: Callable[[], MetadataImage],
        replicas: Iterable[Partition],
        loop: asyncio.AbstractEventLoop,
        background: Background,
    ) -> None:
        self._background = background
        self._broker_id = broker_id
        self._lag_time_max_ms = lag_time_max_ms
        self._store = store
        self._image = image
        self._replicas = replicas
        self._loop = loop
        self._due: deque[Due] = deque()
        self._is_flush_scheduled = False
        self._writes: set[Kept] = set()
        # For the metrics IsrShrinksPerSec and IsrExpandsPerSec.
        self.shrink_count = 0
        self.expand_count = 0
        # Changes that were refused, or whose outcome is unknown; they are tried again.
        self.failed_count = 0

    async def run(self) -> None:
        """Looks for due changes until cancelled."""
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
        """Gives up the writes under way: the next leader finds them done or not."""
        self._due.clear()
        for write in list(self._writes):
            await write.stop()

    def consider(self, partition: Partition) -> None:
        """Proposes and enqueues the change that is due for a partition led here, if any."""
        leader, image = partition.leader, self._image()
        index = partition.topic_partition.partition
        state = image.partition(partition.topic_id, index)
        if leader is None or partition.offline is not None or state is None:
            return
        if state.partition_epoch != leader.partition_epoch:
            return  # the watch has not shown the last write yet
        available = {b.broker_id: b.broker_epoch for b in image.brokers.values() if b.is_available}
        now_ms = monotonic_ms(self._loop)
        change = leader.propose_isr_change(
            now_ms, self._lag_time_max_ms, partition.log.log_end_offset, available
        )
        if change is None:
            return
        guards = {b: joining_from_image(image, b, epoch) for b, epoch in change.joining.items()}
        joining = {b: guard for b, guard in guards.items() if guard is not None}
        self._due.append(Due(partition, leader, change, state, joining))
        self._flush_soon()
        partition.on_isr_changed(leader.advance())

    # -- batches

    def _flush_soon(self) -> None:
        if self._due and not self._is_flush_scheduled and len(self._writes) < MAX_BATCHES:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Sends one batch; the next one goes in another turn of the loop."""
        self._is_flush_scheduled = False
        batch: list[Due] = []
        while self._due and len(batch) < MAX_NESTED:
            due = self._due.popleft()
            if due.is_wanted:
                batch.append(due)
        if batch:
            txn = Txn((), tuple(due.txn(self._broker_id) for due in batch))
            # Not run again: its outcome must not be reported twice.
            run = partial(self._write, batch, txn)
            self._writes.add(self._background.job("isr change", run, again=False, on_over=self._written))
        self._flush_soon()

    def _written(self) -> None:
        self._writes = {write for write in self._writes if not write.is_over}
        self._flush_soon()

    async def _write(self, batch: Sequence[Due], txn: Txn) -> None:
        try:
            result = await self._store.txn(txn)
        except UnknownOutcome as error:
            self._report_unknown(batch, error)
        except StoreUnavailable as error:
            logger.warning("cannot write ISR changes: trying again", partitions=_names(batch), why=str(error))
            for due in batch:
                self._report_refused(due, due.change.partition_epoch)
        except Exception as error:
            bugs.report("ISR changes failed", error, partitions=_names(batch))
            self._report_unknown(batch, error)
        else:
            self._report(batch, result)

    def _report(self, batch: Sequence[Due], result: TxnResult) -> None:
        applied = [due for due, own in zip(batch, result.nested, strict=True) if own.ok]
        self._told(applied)
        for due, own in zip(batch, result.nested, strict=True):
            if own.ok:
                self._moved(due, due.leader.on_isr_change_applied(due.change, result.revision))
            else:
                (found,) = own.gets
                self._report_refused(
                    due, found.mod_revision if found is not None else due.change.partition_epoch
                )

    def _report_refused(self, due: Due, found_partition_epoch: int) -> None:
        moved = due.leader.on_isr_change_refused(due.change, found_partition_epoch, self._now_ms())
        self._again(due.partition)
        self._moved(due, moved)

    def _report_unknown(self, batch: Sequence[Due], error: Exception) -> None:
        logger.warning(
            "ISR changes may or may not have been written: trying again",
            partitions=_names(batch),
            why=str(error),
        )
        for due in batch:
            due.leader.on_isr_change_unknown(due.change, self._now_ms())
            self._again(due.partition)

    def _moved(self, due: Due, moved: bool) -> None:
        if due.partition.leader is due.leader:
            due.partition.on_isr_changed(moved)

    def _told(self, applied: Sequence[Due]) -> None:
        """Counts and logs the applied changes; partitions with the same change share one line."""
        alike: dict[tuple[frozenset[int], frozenset[int]], list[Due]] = {}
        for due in applied:
            alike.setdefault((frozenset(due.state.isr), due.change.isr), []).append(due)
        for (before, after), changed in alike.items():
            self.expand_count += len(changed) * bool(after - before)
            self.shrink_count += len(changed) * bool(before - after)
            logger.info(
                "the ISR changed", partitions=_names(changed), before=sorted(before), after=sorted(after)
            )

    def _again(self, partition: Partition) -> None:
        self.failed_count += 1
        self._loop.call_later(RETRY_S, self.consider, partition)

    def _now_ms(self) -> int:
        return monotonic_ms(self._loop)


def _names(batch: Sequence[Due]) -> str:
    return ", ".join(str(due.partition.topic_partition) for due in batch)
