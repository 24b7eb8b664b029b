"""Keeps the metadata image equal to the store: initial load, watch, reload after ``Compacted``.

Subscribers are called synchronously after each applied revision, in the order in which they subscribed, and
must not await. While the store is unreachable the image stays as it is (``is_current`` is False): leaders
go on leading, nothing new is learned. It is current again once the store has answered while a new watch runs, even if
nothing has changed meanwhile.

Tier heads are not part of the image. Who follows some of them is told of each that is written (``watch_heads``).
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Callable
from functools import partial
from typing import Protocol

import structlog

from tierlog.broker.cluster.patience import patiently
from tierlog.broker.work.background import Background, Kept
from tierlog.errors import StoreUnavailable
from tierlog.metadata import keys
from tierlog.metadata.image import ImageDelta, MetadataImage
from tierlog.metadata.stores.port import PAGE_KEYS, Compacted, MetadataStore, WatchStream
from tierlog.metadata.transactions import Put, Txn, WatchBatch

DeltaCallback = Callable[[ImageDelta], None]

RETRY_S = 0.5
OWN_EVENT_S = 0.2
# How often the watch is compared with the store, and how long it may then stay silent.
LAG_CHECK_S = 5.0
# After applying for so long at a stretch the loop gets a turn: a burst must not hold up clients.
APPLY_SLICE_S = 0.005

logger = structlog.get_logger()


class HeadWatcher(Protocol):
    """Who wants to know of tier heads. Called synchronously, and must not await."""

    def on_head(self, key: str, value: bytes | None, revision: int) -> None:
        """The head was written in ``revision``, or deleted (None)."""

    def on_gap(self) -> None:
        """Heads may have been written that nobody was told of."""


class MetadataFeed:
    """One per process. ``image`` is always the same object; ``start`` fills it."""

    def __init__(
        self,
        store: MetadataStore,
        *,
        background: Background | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        """``on_failure(why)``: a bug, here or in a subscriber, ended the feed; the broker must not go on
        with an image that stands still."""
        self._store = store
        self._background = Background() if background is None else background
        self._on_failure = on_failure
        self.image = MetadataImage()
        self.is_current = False
        self._callbacks: list[DeltaCallback] = []
        self._head_watchers: list[HeadWatcher] = []
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._waited = 0
        self._task: Kept | None = None

    async def start(self) -> None:
        """Loads the image, as soon as the store lets it, and starts watching. Raises ``UserError`` when the store was
        written by a newer version."""
        assert self._task is None, "started twice"
        self.image.replace(await patiently(self._load, "to load the metadata"))
        self.is_current = True
        self._task = self._background.forever("metadata feed", self._follow, vital=self._ended)

    async def close(self) -> None:
        """Stops watching; those who wait for a revision are cancelled."""
        if self._task is not None:
            await self._task.stop()
        for _, _, waiter in self._waiting:
            waiter.cancel()

    def subscribe(self, callback: DeltaCallback) -> None:
        """``callback(delta)`` after each applied revision that changed the image."""
        self._callbacks.append(callback)

    def has_topic(self, name: str) -> bool:
        """Whether the image has the topic now."""
        return self.image.topic(name) is not None

    def partition_count(self, name: str) -> int:
        """0 where the image does not have the topic."""
        topic = self.image.topic(name)
        return topic.partition_count if topic is not None else 0

    def watch_heads(self, watcher: HeadWatcher) -> None:
        """Tells ``watcher`` of every tier head of the cluster from here on."""
        self._head_watchers.append(watcher)

    async def wait_for_revision(self, revision: int) -> None:
        """Returns once the image has applied ``revision`` (which must exist); at once when it has already.

        In an etcd that others use too, ``revision`` may belong to a key that is not ours, and perhaps no event of ours ever
        reaches it: after ``OWN_EVENT_S`` without one, a write to a key of our own makes one.
        """
        if self.image.revision >= revision:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waited += 1
        heapq.heappush(self._waiting, (revision, self._waited, waiter))
        while not (await asyncio.wait([waiter], timeout=OWN_EVENT_S))[0]:
            with contextlib.suppress(StoreUnavailable):
                await self._store.txn(Txn((), (Put(keys.SYNC, b""),)))
        waiter.result()

    # -- inside

    def _ended(self, error: BaseException) -> None:
        self.is_current = False
        if self._on_failure is not None:
            self._on_failure(error)

    async def _follow(self) -> None:
        while True:
            try:
                await self._watch()
            except Compacted:
                logger.info(
                    "the store no longer has the changes since the last one seen: all metadata is read again"
                )
                await self._reload()
            except StoreUnavailable as error:
                await self._pause(error)

    async def _pause(self, error: StoreUnavailable) -> None:
        if self.is_current:
            logger.warning(
                "the metadata store does not answer: metadata stays as it is until it does", why=str(error)
            )
        self.is_current = False
        await asyncio.sleep(RETRY_S)

    async def _load(self) -> MetadataImage:
        try:
            return await load_image(self._store)
        except Compacted as error:
            raise StoreUnavailable(f"{error} while the metadata were read") from None

    async def _watch(self) -> None:
        # Everything is watched, even what the image does not keep, so that the image's revision is the store's.
        watch = self._store.watch([keys.ROOT], self.image.revision + 1)
        answered = self._background.job("metadata feed's answer", self._await_answer)
        lag = self._background.forever("metadata feed's lag", partial(self._watch_lag, watch))
        try:
            loop = asyncio.get_running_loop()
            turn_s = loop.time()
            async for batch in watch:
                self.is_current = True
                self._apply(batch)
                if loop.time() - turn_s > APPLY_SLICE_S:
                    await asyncio.sleep(0)
                    turn_s = loop.time()
        finally:
            answered.cancel()
            lag.cancel()
            watch.close()
        raise StoreUnavailable("the watch ended")

    async def _await_answer(self) -> None:
        """Asks until the store is back: a quiet cluster has no events that would show it."""
        while not self.is_current:
            try:
                await self._store.get(keys.CLUSTER)
                self.is_current = True
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)

    async def _watch_lag(self, watch: WatchStream) -> None:
        """Restarts a watch that has gone silent, which looks like one without news: while the image is behind the store, a
        key of our own is written now and then, and a watch that does not deliver anything is replaced."""
        while True:
            await asyncio.sleep(LAG_CHECK_S)
            try:
                newest = (await self._store.range(keys.CLUSTER, limit=1)).revision
                if self.image.revision >= newest:
                    continue
                # ``newest`` may belong to a key that is not ours.
                own = (await self._store.txn(Txn((), (Put(keys.SYNC, b""),)))).revision
            except StoreUnavailable:
                continue
            before = self.image.revision
            await asyncio.sleep(LAG_CHECK_S)
            if before == self.image.revision < own:
                logger.warning(
                    "the watch of the metadata store has gone silent: a new one is begun",
                    seen_revision=before,
                    store_revision=own,
                )
                watch.close()  # which ends this task too

    async def _reload(self) -> None:
        try:
            fresh = await load_image(self._store)
        except Compacted:
            return  # again, from the top
        except StoreUnavailable as error:
            await self._pause(error)
            return  # the next watch finds the same gap
        if fresh.revision > self.image.revision:
            self._publish(self.image.replace(fresh))
            for watcher in self._head_watchers:
                watcher.on_gap()

    def _apply(self, batch: WatchBatch) -> None:
        events = tuple(e for e in batch.events if not e.key.startswith(keys.TIER_HEADS))
        self._publish(self.image.apply(WatchBatch(batch.revision, events)))
        if len(events) < len(batch.events):
            self._tell_heads(batch)

    def _tell_heads(self, batch: WatchBatch) -> None:
        for key, kv in batch.events:
            if key.startswith(keys.TIER_HEADS):
                for watcher in self._head_watchers:
                    watcher.on_head(key, None if kv is None else kv.value, batch.revision)

    def _publish(self, delta: ImageDelta) -> None:
        if not delta.is_empty:
            for callback in self._callbacks:
                callback(delta)
        while self._waiting and self._waiting[0][0] <= self.image.revision:
            _, _, waiter = heapq.heappop(self._waiting)
            if not waiter.done():
                waiter.set_result(None)


async def load_image(store: MetadataStore) -> MetadataImage:
    """The whole image at one revision, read in pages. Raises ``Compacted`` when the store forgot that
    revision meanwhile."""
    image = MetadataImage()
    revision: int | None = None
    for prefix in keys.IMAGE_PREFIXES:
        cursor: str | None = None
        while True:
            page = await store.range(prefix, revision, PAGE_KEYS, cursor)
            revision = page.revision
            image.load(page.kvs)
            cursor = page.cursor
            if cursor is None:
                break
    assert revision is not None
    image.finish_load(revision)
    return image
