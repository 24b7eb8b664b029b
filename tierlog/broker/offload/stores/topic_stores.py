"""Which object store a topic has. There is one of these per broker, and every object is read, written and deleted by it.

The metadata store says which store a topic has (``TopicRecord.store``); no config is asked. A store that is not the
brokers' own is opened when something of it is first needed, beside the loop, and only where it carries this cluster's
marker: without it this is not the place that the topic's segments were copied to. One URL is one store, with one client.

Bound: as many stores as the topics and tombstones of a cluster may have (``STORES_MAX``). Where room is needed, those that
no topic has any more are closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tiering.errors import Misconfigured as Unusable
from tiering.errors import NotFound, ObjectStoreError, TieringError, Unavailable
from tiering.keys import CLUSTER_MARKER, check_cluster_marker, topic_id_text
from tiering.ledger.rows import Cause
from tiering.metering.attribution import attributed
from tiering.objects.classes import ClassNames, StorageClass
from tiering.objects.port import ObjectStore
from tierlog.broker.offload.bucket import CLAIM_TIMEOUT_S, claim_bucket, why_no_answer
from tierlog.config.places import OBJECT_STORE, without_query
from tierlog.metadata.control.topic_stores import STORES_MAX
from tierlog.metadata.image import MetadataImage

RETRY_S = 5.0
"""So long is a store that could not be opened left alone, whoever asks."""
NO_MARKER = f"{CLUSTER_MARKER} is not there, so this is not where the cluster has put anything; bring back what was there"
OWN = ""
"""Stands for the brokers' own store."""


@dataclass(slots=True)
class _Entry:
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    objects: ObjectStore | None = None
    refused: TieringError | None = None
    retry_at_s: float = 0.0


class TopicStores:
    """``own``: the brokers' own store, already open; it is closed by whoever opened it. ``open_url``: opens the store of a
    URL; told whether it may be written to."""

    def __init__(
        self,
        own_url: str,
        own: ObjectStore,
        image: Callable[[], MetadataImage],
        cluster_id: str,
        open_url: Callable[[str, bool], ObjectStore],
        class_names_of: Callable[[str], dict[StorageClass, ClassNames]],
    ) -> None:
        self.own_url = own_url
        self.cluster_id = cluster_id
        self._own = own
        self._image = image
        self._open_url = open_url
        self._class_names_of = class_names_of
        self._entries: dict[str, _Entry] = {}

    def key_of(self, url: str) -> str:
        """``OWN``, or the URL of another store."""
        return OWN if url == self.own_url else url

    def is_own(self, url: str) -> bool:
        return self.key_of(url) == OWN

    def has_open(self, url: str) -> bool:
        """Whether another store than the brokers' own is open, and so known to be ours."""
        entry = self._entries.get(url)
        return entry is not None and entry.objects is not None

    def store_of(self, topic_id: bytes) -> str:
        """As ``key_of``. Raises ``NotFound`` if there is no such topic, nor a tombstone of it."""
        record = self._image().record_of(topic_id)
        if record is None:
            raise NotFound(f"there is no topic {topic_id_text(topic_id)}")
        return self.key_of(record.store)

    def shown(self, url: str) -> str:
        """The URL for people."""
        return without_query(url or self.own_url)

    @property
    def in_use(self) -> list[str]:
        """The brokers' own store and those that topics and tombstones have."""
        return sorted({OWN, *map(self.key_of, self._image().topic_stores())})

    def class_names(self, url: str) -> dict[StorageClass, ClassNames]:
        """What the store calls its storage classes; empty if it has only one."""
        return self._class_names_of(url or self.own_url)

    async def of(self, topic_id: bytes) -> ObjectStore:
        """The store of a topic. Raises as ``opened`` and ``store_of``."""
        return await self.opened(self.store_of(topic_id))

    async def opened(self, url: str) -> ObjectStore:
        """The store of this URL. Raises ``Misconfigured`` or ``Unavailable`` with one line if it cannot be used now."""
        if self.key_of(url) == OWN:
            return self._own
        entry = self._entries.get(url)
        if entry is not None and entry.objects is not None:
            return entry.objects
        if entry is None:
            await self._make_room()
            entry = self._entries.setdefault(url, _Entry())
        loop = asyncio.get_running_loop()
        async with entry.turn:
            if entry.objects is None and (entry.refused is None or loop.time() >= entry.retry_at_s):
                try:
                    with attributed(Cause.START):
                        entry.objects = await self._checked(url)
                    entry.refused = None
                except TieringError as error:
                    entry.refused, entry.retry_at_s = error, loop.time() + RETRY_S
            if entry.objects is not None:
                return entry.objects
            assert entry.refused is not None
            kind = Unavailable if is_passing(entry.refused) else Unusable
            raise kind(f"{OBJECT_STORE}={without_query(url)}: {entry.refused}")

    async def examine(self, url: str, *, claims: bool) -> None:
        """Looks whether the store is there, and ours or nobody's. ``claims``: makes it ours if it is nobody's, once it was
        tried. Raises ``TieringError`` with one line."""
        objects = await asyncio.to_thread(self._open_url, url, claims)
        try:
            with attributed(Cause.START):
                async with asyncio.timeout(CLAIM_TIMEOUT_S):
                    if claims:
                        await claim_bucket(objects, self.cluster_id)
                    else:
                        _, found = await objects.get(CLUSTER_MARKER)
                        check_cluster_marker(bytes(found), self.cluster_id)
        except NotFound:
            pass  # nobody's
        except TimeoutError:
            raise Unavailable(why_no_answer(url, objects)) from None
        finally:
            await objects.close()
        entry = self._entries.get(url)
        if entry is not None:
            entry.refused = None

    async def close(self) -> None:
        entries, self._entries = self._entries, {}
        for entry in entries.values():
            if entry.objects is not None:
                await entry.objects.close()

    async def _make_room(self) -> None:
        if len(self._entries) < STORES_MAX:
            return
        used = set(self.in_use)
        idle = [url for url, entry in self._entries.items() if url not in used and not entry.turn.locked()]
        for entry in [self._entries.pop(url) for url in idle]:
            if entry.objects is not None:
                await entry.objects.close()

    async def _checked(self, url: str) -> ObjectStore:
        """Opened, if it has our marker; a look creates no directory."""
        looked_at = await asyncio.to_thread(self._open_url, url, False)
        try:
            async with asyncio.timeout(CLAIM_TIMEOUT_S):
                _, found = await looked_at.get(CLUSTER_MARKER)
            check_cluster_marker(bytes(found), self.cluster_id)
        except TimeoutError:
            raise Unavailable(why_no_answer(url, looked_at)) from None
        except NotFound:
            raise Unusable(NO_MARKER) from None
        finally:
            await looked_at.close()
        return await asyncio.to_thread(self._open_url, url, True)


def is_passing(error: TieringError) -> bool:
    """Whether it may pass by itself."""
    return isinstance(error, ObjectStoreError) and error.retriable
