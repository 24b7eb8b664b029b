"""The state of one led partition's remote part; it is ``Partition.remote`` while this broker leads.

It is changed only by the partition's own job, by its sweeps and by commits of its log start, between two awaits. Commits
take turns (``turn``), since each new head is made from the head of the commit before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tiering.catalog import Catalog
from tiering.copying.exposure import Exposure
from tiering.keys import PartitionKeys
from tiering.lifecycle import Attempts, Named
from tiering.model import TierHead
from tiering.pages import Pages
from tiering.reading.reader import RemotePartition
from tiering.sweeping.sweeps import Sweeps
from tierlog.broker.offload.heads import HeadStore
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.background import Kept
from tierlog.telemetry.tier_counters import TopicTierCounters


class PartitionTier:
    """The tier head as of ``revision``, with its pages."""

    def __init__(
        self,
        partition: Partition,
        cluster_id: str,
        heads: HeadStore,
        counters: TopicTierCounters,
        sweeps: Sweeps,
    ) -> None:
        self.partition = partition
        self.counters = counters
        self.leader_epoch = partition.leader_epoch
        self.keys = PartitionKeys(cluster_id, partition.topic_id, partition.topic_partition.partition)
        self.store = heads.store_of(partition.topic_id)
        """URL of the object store that all of it goes to; empty: the brokers' own. As ``TopicRecord`` has it."""
        self.head = TierHead.empty()
        self.revision = -1
        self.pages = Pages()
        self.catalog = Catalog(self.head)
        self.attempts = Attempts(self.leader_epoch)
        self.loaded = asyncio.Event()
        self.turn = asyncio.Lock()
        self.job: Kept | None = None
        self.failures = 0
        self.next_try_ms = 0
        self.next_check_ms = 0
        self.sweeps = sweeps
        self.deletes_fail = False
        """The last request to delete failed as a whole, and may have taken long."""
        self.head_copied_sequence = -1
        self.head_copied_ms = 0
        self.exposure = Exposure()
        self.ladder_offset = self.next_ladder_ms = 0
        """Where the pass over the entries' storage classes goes on, and when the next one may begin."""
        self._heads = heads

    def __str__(self) -> str:
        return str(self.partition.topic_partition)

    # -- RemoteView

    @property
    def is_loaded(self) -> bool:
        return self.loaded.is_set()

    @property
    def start_offset(self) -> int:
        return self.head.start

    @property
    def end_offset(self) -> int:
        return self.head.end

    @property
    def segment_count(self) -> int:
        return len(self.catalog)

    @property
    def size_bytes(self) -> int:
        return self.catalog.data_bytes

    @property
    def exposed_since_ms(self) -> int | None:
        return self.exposure.since_ms

    def future_dated_count(self, now_ms: int) -> int:
        return self.catalog.dated_above(now_ms)

    @property
    def retired_size(self) -> tuple[int, int]:
        return self.catalog.retired_size()

    @property
    def remote_partition(self) -> RemotePartition:
        """The remote part in the form that the reader takes."""
        return RemotePartition(self.keys, self.catalog, self.partition.log.local_log_start_offset)

    @property
    def named(self) -> Named:
        """All objects that the head names."""
        return Named.of(self.head, self.pages)

    # -- the head

    def adopt(self, head: TierHead, revision: int, pages: Pages) -> None:
        """Makes this the current head. The local log start, a cache of the head's start, follows."""
        assert revision >= self.revision, "heads only move on"
        self.head, self.revision, self.pages = head, revision, pages
        self.catalog = Catalog(head, pages.columns)
        self.loaded.set()
        log = self.partition.log
        if head.start > log.log_start_offset:
            log.advance_log_start_offset(min(head.start, log.log_end_offset))

    async def commit(
        self, change: Callable[[TierHead], TierHead], pages: Callable[[], Pages] | None = None
    ) -> None:
        """Commits ``change(head)``. ``pages``: the pages of the new head, if they differ.

        Raises what ``HeadStore.commit`` raises. After UnknownOutcome and HeadMoved the head must be read again."""
        async with self.turn:
            head = change(self.head)
            if head is self.head:
                return
            head = head.raised_to(self._heads.format_version())
            topic_id, index = self.keys.topic_id, self.keys.partition
            revision = await self._heads.commit(
                topic_id, index, self.leader_epoch, head, self.revision, self.store
            )
            if head.page_index is None:
                self.adopt(head, revision, Pages())
            else:
                self.adopt(head, revision, pages() if pages else self.pages)
