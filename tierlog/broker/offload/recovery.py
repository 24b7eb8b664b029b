"""Compares local logs with their tier: at the start of the broker, before it registers as alive, and for a follower whose
leader no longer has the records that it needs on its disk.

Tiered records were committed, so the tier is right. If the local log ends below the tiered end, or if its record right
before the tiered end is of another epoch, the local files are set aside. The log then begins at the tiered end, with the
epoch lineage and the producer state of the last footer. The log start is that of the tier head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from tiering.catalog import Catalog
from tiering.errors import TieringError
from tiering.keys import PartitionKeys
from tiering.ledger.rows import Cause
from tiering.manifest import Manifests
from tiering.metering.attribution import attributed
from tiering.reading.lookups import RemoteLookups
from tiering.reading.reader import RemotePartition
from tierlog.broker.offload.heads import HeadStore
from tierlog.broker.offload.lead_check import is_worth_another_try
from tierlog.broker.replicas.partition import Offline, Partition
from tierlog.broker.work.freeing import free_producers
from tierlog.errors import StorageError
from tierlog.log.producers.snapshot_file import CorruptSnapshot
from tierlog.log.producers.snapshots import LoadedSnapshot, load_snapshot
from tierlog.replication.truncation import disagrees_with_tier
from tierlog.types import EpochEntry

logger = structlog.get_logger()


async def reconcile_logs(
    partitions: Iterable[Partition],
    cluster_id: str,
    heads: HeadStore,
    manifests: Manifests,
    lookups: RemoteLookups,
    now_ms: Callable[[], int],
) -> list[Partition]:
    """Returns the partitions that could not be compared because the object store did not answer; they must be compared
    before this broker leads them. A partition with a damaged tier goes offline: its leader could give offsets away twice.

    Raises StoreUnavailable."""
    put_off: list[Partition] = []
    for partition in partitions:
        if not partition.config.remote_storage_enable:
            continue
        try:
            await reconcile_log(partition, cluster_id, heads, manifests, lookups, now_ms())
        except (TieringError, StorageError, CorruptSnapshot) as error:
            if is_worth_another_try(error):
                put_off.append(partition)
                continue
            logger.error(
                "cannot compare a log with its tier", partition=str(partition.topic_partition), why=str(error)
            )
            partition.take_offline(Offline.STORAGE, error)
    return put_off


async def reconcile_log(
    partition: Partition,
    cluster_id: str,
    heads: HeadStore,
    manifests: Manifests,
    lookups: RemoteLookups,
    now_ms: int,
    is_wanted: Callable[[], bool] = lambda: True,
) -> int | None:
    """Begins the log anew at the tiered end if it disagrees with its tier, and returns that offset; None if it stays as
    it is. ``is_wanted`` is asked in the step that changes the log."""
    with attributed(Cause.RECOVERY):
        return await _reconciled(partition, cluster_id, heads, manifests, lookups, now_ms, is_wanted)


async def _reconciled(
    partition: Partition,
    cluster_id: str,
    heads: HeadStore,
    manifests: Manifests,
    lookups: RemoteLookups,
    now_ms: int,
    is_wanted: Callable[[], bool],
) -> int | None:
    index = partition.topic_partition.partition
    head, _ = await heads.read(partition.topic_id, index)
    if head is None:
        return None
    log = partition.log
    keys = PartitionKeys(cluster_id, partition.topic_id, index)
    last = head.tail[-1] if head.tail and head.start < head.end else None
    if last is None and head.start < head.end:
        last = Catalog(head, (await manifests.load(keys, head)).columns).last
    is_other = disagrees_with_tier(log, head.end, last.last_batch_epoch if last else None)
    lineage: list[EpochEntry] = []
    snapshot: LoadedSnapshot | None = None
    if is_other and last is not None:
        remote = RemotePartition(keys, Catalog(head, (await manifests.load(keys, head)).columns))
        lineage = [EpochEntry(*entry) for entry in await lookups.lineage(remote)]
        found = await lookups.producer_snapshot(remote)
        snapshot = await asyncio.to_thread(load_snapshot, found, head.end, now_ms) if found else None
        # Compaction may have removed all records of the last epoch; the lineage that the copying leader wrote still has it.
        is_other = disagrees_with_tier(log, head.end, lineage[-1].leader_epoch if lineage else None)
    if is_other:
        if not is_wanted():
            return None
        logger.warning(
            "the local log disagrees with its tier: it begins anew at the tiered end",
            partition=str(partition.topic_partition),
            log_end=log.log_end_offset,
            tiered_end=head.end,
        )
        former = log.producers
        log.truncate_fully_and_start_at(head.end, now_ms, lineage, snapshot, set_aside=log.size_bytes > 0)
        free_producers(former)
        log.advance_log_start_offset(min(head.start, log.log_end_offset))
        return head.end
    if is_wanted():
        log.advance_log_start_offset(min(head.start, log.log_end_offset))
    return None
