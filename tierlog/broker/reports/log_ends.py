"""Reports log end offsets of this broker, for partitions that no replica may lead any more.

After a power loss of all brokers of a partition no replica is known to have all that was committed. The controller elects
the first eligible replica that reports that it is complete (with ``flush.mode=ack``). Without one it waits until every
replica is back and has reported its log end, and elects the longest log, which is the best that there is.

A partition without a leader is not written to, so a report holds as long as the record's leader epoch and this broker's
registration do. Nothing is reported before roles have begun: until then a log may still be begun anew at its tiered end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import structlog

from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.background import Background, Kept
from tierlog.errors import StoreUnavailable
from tierlog.metadata.commits import report_log_end
from tierlog.metadata.control.election import waits_for_log_ends
from tierlog.metadata.control.log_ends import EMPTY_LOG_EPOCH, Unsaid, unsaid_log_ends
from tierlog.metadata.records import LogEnd
from tierlog.metadata.transactions import Txn

if TYPE_CHECKING:
    from tierlog.broker.cluster.metadata_feed import MetadataFeed
    from tierlog.broker.replicas.hosted import Replicas
    from tierlog.metadata.image import ImageDelta
    from tierlog.metadata.stores.port import MetadataStore

RETRY_S = 2.0

logger = structlog.get_logger()


class LogEndReports:
    """Follows the image; ``apply`` is subscribed after the replicas, once their roles have begun."""

    def __init__(
        self,
        store: MetadataStore,
        feed: MetadataFeed,
        replicas: Replicas,
        broker_epoch: Callable[[], int],
        broker_id: int,
        background: Background,
    ) -> None:
        self._background = background
        self._store = store
        self._feed = feed
        self._replicas = replicas
        self._broker_epoch = broker_epoch
        self._broker_id = broker_id
        self._asked = asyncio.Event()
        self._task: Kept | None = None

    def apply(self, delta: ImageDelta) -> None:
        is_asked = delta.is_reload or self._broker_id in delta.brokers_changed
        is_asked = is_asked or any(
            change.new is not None and waits_for_log_ends(change.new) for change in delta.partitions_changed
        )
        if is_asked:
            self.ask()

    def ask(self) -> None:
        """Looks for partitions that wait for a report of this broker."""
        self._asked.set()
        if self._task is None or self._task.is_over:
            self._task = self._background.job("log ends", self._report_all)

    async def close(self) -> None:
        if self._task is not None:
            await self._task.stop()

    async def _report_all(self) -> None:
        """Runs rounds until everything is reported; waits for a log that is not open yet, or not open any more."""
        while self._is_waited_for():
            self._asked.clear()
            for txn in list(self._reports()):
                try:
                    result = await self._store.txn(txn)
                    await self._feed.wait_for_revision(result.revision)
                except StoreUnavailable as error:
                    logger.warning(
                        "cannot report log end offsets for an election: trying again", why=str(error)
                    )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), RETRY_S)

    def _is_waited_for(self) -> bool:
        """Whether a partition waits for a report that this broker has not made yet."""
        return any(True for _ in self._unsaid())

    def _unsaid(self) -> Iterator[Unsaid]:
        return unsaid_log_ends(self._feed.image, self._broker_id, self._broker_epoch())

    def _reports(self) -> Iterator[Txn]:
        if not self._replicas.roles.has_begun:
            return
        for topic_id, n, leader_epoch in self._unsaid():
            partition = self._replicas.by_id(topic_id, n)
            if not isinstance(partition, Partition) or partition.offline is not None:
                continue
            if partition.leader is not None or partition.leader_epoch > leader_epoch:
                continue
            log = partition.log
            # The epoch of the last record, not of the last leader, which may not have written anything.
            last_epoch = log.epochs.epoch_for_offset(log.log_end_offset - 1) if log.log_end_offset else None
            end = LogEnd(
                self._broker_epoch(),
                leader_epoch,
                EMPTY_LOG_EPOCH if last_epoch is None else last_epoch,
                log.log_end_offset,
                partition.proof.is_whole,
            )
            yield report_log_end(topic_id, n, self._broker_id, end)
