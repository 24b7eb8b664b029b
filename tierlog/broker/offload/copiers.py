"""Who copies this broker's segments: a process of its own for each store, or this one where no other can open the store."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from tiering.copying.mover import Mover
from tiering.copying.port import ClassOf, Copier, Target, always_standard
from tiering.copying.source import SegmentSource
from tiering.copying.worker.copier import WorkerCopier
from tiering.model import SegmentEntry
from tiering.objects.measured import StoreStats
from tiering.objects.opening import opens_elsewhere
from tiering.objects.port import ObjectStore
from tiering.objects.throttled import ThrottledStore
from tierlog import kernel
from tierlog.broker.offload.stores.topic_stores import OWN, TopicStores
from tierlog.config.broker import BrokerConfig
from tierlog.telemetry.metrics import Registry

logger = structlog.get_logger()

WORKER = "tierlog.broker.offload.copy_worker"
"""The program of a worker."""


class Copiers:
    """A ``Copier`` to every topic's store. ``own``: the brokers' own store; ``objects``: all stores as one, to whose rate
    the processes keep.

    Bound: as many processes as copies at once, and those that have been idle for less than a minute; never more than there
    are stores."""

    def __init__(
        self,
        config: BrokerConfig,
        stores: TopicStores,
        own: ObjectStore,
        objects: ThrottledStore,
        stats: StoreStats,
        registry: Registry,
        now_ms: Callable[[], int],
    ) -> None:
        self._stores = stores
        self._here = Mover(
            objects,
            clock_ms=now_ms,
            walk_at_once=kernel.walk_segment,
        )
        self._objects = objects
        self._jobs_max = config.tierlog_upload_concurrency
        self._stats = stats
        self._now_ms = now_ms
        self._death_count = 0
        self._elsewhere: dict[str, WorkerCopier] = {}
        if opens_elsewhere(config.tierlog_object_store, own):
            self._elsewhere[OWN] = self._worker(config.tierlog_object_store)
        registry.value(
            "tierlog_copy_worker_deaths_total",
            "counter",
            "Times that a process that copies segments ended and had not been told to.",
            lambda: self._death_count,
        )

    async def copy(
        self, source: SegmentSource, target: Target, class_of: ClassOf = always_standard
    ) -> SegmentEntry:
        """See ``Copier.copy``; raises too why the topic's store cannot be used."""
        url = self._stores.store_of(target.keys.topic_id)
        if url != OWN:
            objects = await self._stores.opened(url)  # and so known to be this cluster's
            if url not in self._elsewhere and opens_elsewhere(url, objects):
                await self._forget_unused()
                self._elsewhere.setdefault(url, self._worker(url))
        copier: Copier = self._elsewhere.get(url, self._here)
        return await copier.copy(source, target, class_of)

    async def close(self) -> None:
        """Copies that are under way fail."""
        copiers: list[Copier] = [*self._elsewhere.values(), self._here]
        for copier in copiers:
            await copier.close()

    async def _forget_unused(self) -> None:
        used = {OWN, *self._stores.in_use}
        for url in [url for url in self._elsewhere if url not in used]:
            await self._elsewhere.pop(url).close()

    def _worker(self, url: str) -> WorkerCopier:
        return WorkerCopier(
            url,
            jobs_max=self._jobs_max,
            stats=self._stats,
            clock_ms=self._now_ms,
            take=self._objects.take_upload,
            on_death=self._tell_death,
            program=WORKER,
        )

    def _tell_death(self, why: str, pause_s: float) -> None:
        self._death_count += 1
        logger.warning(
            "a process that copies segments is gone: its copies are tried again", why=why, next_in_s=pause_s
        )
