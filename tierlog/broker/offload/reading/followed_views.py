"""Read-only views of the tiers of followed partitions: with them a follower serves remote records to consumers of its rack.

A view is a committed head with its pages. It is made when a consumer first asks, kept current by the metadata watch, and
forgotten when nobody has asked for ``IDLE_S``, or when others need its memory.

Rules:

* An old view is no wrong one: the records of an offset never change, and objects that newer heads no longer name stay for
  ``tierlog.remote.delete.grace.ms``. Only the start has to be the newest that is known.
* Pages that a newer head names are read beside the reads, which go on with the old ones.
* What a view lacks, or names though it is gone, is looked for once in the head that the store has now (``renewed``).
* Nothing is ever written. While this broker leads a partition, it has a ``PartitionTier`` and no view.

Bounds: ``VIEWS_BYTES`` for all views, or one of them; ``LOADS_AT_ONCE``.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial
from typing import NamedTuple

from tiering.catalog import Catalog
from tiering.errors import TieringError
from tiering.head_codec import HEAD_BYTES_MAX, decode_head
from tiering.keys import PartitionKeys
from tiering.ledger.rows import Cause
from tiering.manifest import Manifests
from tiering.metering.attribution import attributed
from tiering.model import TierHead
from tiering.pages import Pages
from tiering.reading.reader import RemotePartition
from tierlog.broker.offload.heads import HeadMoved, HeadStore, read_with_pages
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.background import Background, Kept
from tierlog.broker.work.repeated_warnings import kind_of
from tierlog.errors import StoreUnavailable, TierlogError
from tierlog.metadata import keys
from tierlog.telemetry.tier_counters import TierCounters, TopicTierCounters

VIEWS_BYTES = 32 << 20
ENTRY_BYTES = 170
LOADS_AT_ONCE = 4
IDLE_S = 600.0
# A view is read again no sooner than so long after the last time.
RENEW_S = 1.0


class CannotView(TierlogError):
    """The tier head or its pages cannot be read from here: then the partition's leader serves the consumer."""


class News(NamedTuple):
    """A head that was written since, as the store holds it: it is decoded when somebody asks."""

    revision: int
    value: bytes | TierHead


class FollowedTier:
    """The view of one partition; compare ``PartitionTier``, which is the leader's."""

    __slots__ = (
        "catalog",
        "counters",
        "doubts",
        "failure",
        "head",
        "is_behind",
        "keys",
        "load",
        "news",
        "pages",
        "partition",
        "revision",
        "settled_doubts",
        "start_offset",
        "tried_s",
        "used_s",
    )

    def __init__(
        self, partition: Partition, partition_keys: PartitionKeys, counters: TopicTierCounters
    ) -> None:
        self.partition = partition
        self.keys = partition_keys
        self.counters = counters
        self.head = TierHead.empty()
        self.revision = -1
        self.pages = Pages()
        self.catalog = Catalog(self.head)
        self.start_offset = 0
        """Of the newest head that is known: the catalog may be older."""
        self.news: News | None = None
        self.doubts, self.settled_doubts = 1, 0
        """How often there was a reason to read it before it is used, and how many of these a later read has settled."""
        self.is_behind = False
        """It should be read, and may be used meanwhile."""
        self.load: Kept | None = None
        self.failure = ""
        """Why the last load failed, else empty."""
        self.tried_s = self.used_s = 0.0
        """When it was last read, or tried to; and when it was last asked for. On the loop's clock."""

    def __str__(self) -> str:
        return str(self.partition.topic_partition)

    @property
    def is_doubtful(self) -> bool:
        """It must be read before it is used."""
        return self.settled_doubts < self.doubts

    @property
    def remote_partition(self) -> RemotePartition:
        """The remote part in the form that the reader takes."""
        return RemotePartition(self.keys, self.catalog, self.partition.log.local_log_start_offset)

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return HEAD_BYTES_MAX + ENTRY_BYTES * len(self.pages.columns)

    def adopt(self, head: TierHead, revision: int, pages: Pages) -> None:
        if revision < self.revision:
            return  # the watch was faster
        self.head, self.revision, self.pages = head, revision, pages
        self.catalog = Catalog(head, pages.columns)
        self.start_offset = head.start

    def take_news(self) -> None:
        """Adopts what the watch has told, as far as its pages are at hand."""
        news, self.news = self.news, None
        if news is None or news.revision <= self.revision:
            return
        try:
            value = news.value
            head = value if isinstance(value, TierHead) else decode_head(value, self.keys.meta_prefix)
        except TieringError:
            self.doubts += 1  # whoever reads it tells the error
            return
        if head.page_index is None:
            self.adopt(head, news.revision, Pages())
        elif head.page_index == self.head.page_index:
            self.adopt(head, news.revision, self.pages)
        else:
            self.start_offset = max(self.start_offset, head.start)
            self.is_behind = True


class FollowedViews:
    """One per broker; implements ``HeadWatcher``."""

    def __init__(
        self,
        cluster_id: str,
        heads: HeadStore,
        manifests: Manifests,
        counters: TierCounters,
        background: Background,
    ) -> None:
        self._cluster_id = cluster_id
        self._heads = heads
        self._manifests = manifests
        self._counters = counters
        self._background = background
        self._loop = asyncio.get_running_loop()
        self._turns = asyncio.Semaphore(LOADS_AT_ONCE)
        self._loads: set[Kept] = set()
        # Least recently used first.
        self._views: OrderedDict[Partition, FollowedTier] = OrderedDict()
        self._by_key: dict[str, FollowedTier] = {}

    def __len__(self) -> int:
        return len(self._views)

    @property
    def size_bytes(self) -> int:
        return sum(view.size_bytes for view in self._views.values())

    # -- for reads

    def ready(self, partition: Partition) -> FollowedTier | None:
        """The view, if it may be used without waiting."""
        view = self._views.get(partition)
        if view is None or partition.follower is None:
            return None
        view.take_news()
        if view.is_doubtful:
            return None
        if view.is_behind and self._loop.time() - view.tried_s >= RENEW_S:
            self._begin_load(view)
        self._note_used(view)
        return view

    async def get(self, partition: Partition, deadline_s: float) -> FollowedTier | None:
        """The view, which is read first where need be. None if it is not there by the deadline, or not followed any more.

        Raises CannotView."""
        found = self.ready(partition)
        if found is not None or partition.follower is None:
            return found
        view = self._views.get(partition) or self._open(partition)
        load = self._begin_load(view)
        assert load.task is not None
        await asyncio.wait((load.task,), timeout=max(deadline_s - self._loop.time(), 0))
        if load.is_over and view.failure:
            raise CannotView(view.failure)
        return self.ready(partition)

    async def renewed(self, partition: Partition, deadline_s: float) -> FollowedTier | None:
        """As ``get``, read from the store again, unless that was done within ``RENEW_S`` and nothing newer is known."""
        view = self._views.get(partition)
        if view is not None and (view.is_behind or self._loop.time() - view.tried_s >= RENEW_S):
            view.doubts += 1
        return await self.get(partition, deadline_s)

    def learn(self, partition: Partition, head: TierHead, revision: int) -> None:
        """The store was read for another purpose. Local segments may go by what it said: the view must not know less."""
        view = self._views.get(partition)
        if view is not None and (view.news is None or view.news.revision < revision):
            view.news = News(revision, head)

    # -- HeadWatcher

    def on_head(self, key: str, value: bytes | None, revision: int) -> None:
        view = self._by_key.get(key)
        if view is None:
            return
        if value is None:
            self._forget(view)
        elif view.news is None or view.news.revision < revision:
            view.news = News(revision, value)

    def on_gap(self) -> None:
        for view in self._views.values():
            view.doubts += 1

    # -- upkeep

    def tidy(self) -> None:
        """Forgets the views of what is not followed any more, and those that nobody has used for long. To be called now
        and then."""
        now_s = self._loop.time()
        for view in list(self._views.values()):
            if view.partition.follower is None or now_s - view.used_s > IDLE_S:
                self._forget(view)

    async def close(self) -> None:
        """Ends the loads that are under way."""
        for load in self._loads:
            await load.stop()

    # -- inside

    def _open(self, partition: Partition) -> FollowedTier:
        topic, index = partition.topic_partition
        key = keys.tier_head(partition.topic_id, index)
        if key in self._by_key:
            self._forget(self._by_key[key])  # of the same replica, before it moved to another directory
        partition_keys = PartitionKeys(self._cluster_id, partition.topic_id, index)
        view = FollowedTier(partition, partition_keys, self._counters.bind(topic))
        self._views[partition] = self._by_key[key] = view
        self._note_used(view)
        self._make_room()
        return view

    def _note_used(self, view: FollowedTier) -> None:
        view.used_s = self._loop.time()
        self._views.move_to_end(view.partition)

    def _forget(self, view: FollowedTier) -> None:
        partition = view.partition
        del self._views[partition]
        del self._by_key[keys.tier_head(partition.topic_id, partition.topic_partition.partition)]
        self._counters.release(partition.topic_partition.topic)

    def _make_room(self) -> None:
        total_bytes = self.size_bytes
        while total_bytes > VIEWS_BYTES and len(self._views) > 1:
            oldest = next(iter(self._views.values()))
            total_bytes -= oldest.size_bytes
            self._forget(oldest)

    def _begin_load(self, view: FollowedTier) -> Kept:
        """Reads the view beside the reads that wait for it, which it outlives."""
        if view.load is None or view.load.is_over:
            name, over = f"view of a tier: {view}", partial(self._load_is_over, view)
            view.load = self._background.job(name, partial(self._load, view), again=False, on_over=over)
            self._loads.add(view.load)
        return view.load

    def _load_is_over(self, view: FollowedTier) -> None:
        self._loads = {each for each in self._loads if not each.is_over}
        if view.load is not None and view.load.is_over:
            view.load = None

    async def _load(self, view: FollowedTier) -> None:
        async with self._turns:
            doubts, view.is_behind = view.doubts, False
            view.tried_s, view.failure = self._loop.time(), ""
            try:
                with attributed(Cause.FETCH):
                    head, revision, pages = await read_with_pages(
                        self._heads, self._manifests, view.keys, view.head, view.pages
                    )
                if head is None:
                    raise CannotView("there is no tier head")
            except BaseException as error:
                view.is_behind = True
                if not isinstance(error, (CannotView, StoreUnavailable, HeadMoved, TieringError)):
                    raise
                view.failure = f"{kind_of(error)}: {error}"
                return
        view.adopt(head, revision, pages)
        view.settled_doubts = doubts
        if self._views.get(view.partition) is view:
            self._make_room()
