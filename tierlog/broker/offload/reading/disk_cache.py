"""The disk cache of remote reads, as this broker uses it: where it lies, and which of its entries nobody can need any more.

Each broker has a directory of its own, ``broker-<node id>``, in ``tierlog.remote.cache.dir``: brokers of one machine may
share the setting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from tiering.disk_cache.cache import DiskCache
from tiering.disk_cache.entries import CachedObject
from tiering.errors import TieringError
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.hosted import Replicas
from tierlog.config.broker import BrokerConfig
from tierlog.config.places import CACHE_DIR
from tierlog.errors import ErrorCode, UserError
from tierlog.metadata.image import MetadataImage

# Of the file system's free space, what the cache leaves to others; a log directory refuses produce below half of it.
RESERVES = 2

logger = structlog.get_logger()


async def open_disk_cache(config: BrokerConfig, cluster_id: str) -> DiskCache | None:
    """Takes over what the last run has left there; None where no cache is wanted. Raises UserError."""
    place, budget_bytes = config.tierlog_remote_cache_dir, config.tierlog_remote_cache_max_bytes
    if place is None or not budget_bytes:
        return None
    root = Path(place)

    def say(what: str) -> None:
        logger.warning(f"the disk cache {what}", directory=place)

    try:
        resolved = root.resolve()
        for log_dir in map(Path, config.log_dirs):
            if resolved.is_relative_to(log_dir.resolve()):
                raise UserError(
                    f"{CACHE_DIR}={place}: is in the log directory {log_dir}; set another directory"
                )
        return await DiskCache.open(
            root / f"broker-{config.node_id}",
            budget_bytes,
            cluster_id,
            say,
            free_bytes_min=RESERVES * config.tierlog_disk_reserve_bytes,
            waiting_bytes_max=max(config.tierlog_chunk_cache_memory_bytes // 2, 8 << 20),
        )
    except (TieringError, OSError) as error:
        raise UserError(f"{CACHE_DIR}={place}: {error}") from error


class DeadEntries:
    """Drops entries of segments and topics that are deleted, and of partitions that have no replica here any more."""

    def __init__(
        self,
        cache: DiskCache,
        node_id: int,
        image: Callable[[], MetadataImage],
        replicas: Replicas,
        interval_ms: int,
    ) -> None:
        self._cache = cache
        self._node_id = node_id
        self._image = image
        self._replicas = replicas
        self._interval_s = interval_ms / 1000

    async def run(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            await self._cache.retain(self.may_be_read)
            await asyncio.sleep(self._interval_s)

    def may_be_read(self, object_: CachedObject) -> bool:
        """Whether a read may still ask for it. Yes as long as it is not known which segments there are."""
        _, topic_id, index = object_.keys
        state = self._image().partition(topic_id, index)
        if state is None or self._node_id not in state.replicas:
            return False
        partition = self._replicas.by_id(topic_id, index)
        if isinstance(partition, ErrorCode):
            return True
        if object_.segment.end_offset <= partition.log.log_start_offset:
            return False
        tier = partition.remote
        if not isinstance(tier, PartitionTier) or not tier.is_loaded:
            return True
        catalog = tier.catalog
        if object_.segment.base_offset >= catalog.end:
            return True
        entry = catalog.find(max(object_.segment.base_offset, catalog.start))
        return entry is not None and CachedObject.of(object_.keys, entry) == object_
