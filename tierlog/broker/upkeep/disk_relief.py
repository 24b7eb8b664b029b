"""Frees space when a log directory runs short: deletes local segments that the object store holds too.

Rules:

* Only sealed segments below the tiered end, as read from the metadata store, and below the high watermark (I11) are
  deleted, on leaders and on followers; the oldest of the whole directory first. ``local.retention.*`` is an upper bound for
  local data, not a promise.
* Relief begins before produce is refused, and frees no more than is needed.
* If nothing is left to be copied or deleted, the largest active segment of a tiered log is rolled, one per turn. A disk full
  of active segments would otherwise stay full: while produce is refused, no append rolls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog

from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.replicas.hosted import Replicas
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import DiskFull, StorageError

ROLL_FROM_BYTES = 1024 * 1024

logger = structlog.get_logger()


class Spare(NamedTuple):
    """A local segment that the tier has too; sorts by age. ``age_ms``: the largest timestamp in the log up to the segment's
    end. ``number``: its place among the log's sealed segments. ``end_offset`` is exclusive."""

    age_ms: int
    number: int
    size_bytes: int
    end_offset: int
    partition: Partition


class DiskRelief:
    """One per broker."""

    def __init__(self, replicas: Replicas, now_ms: Callable[[], int]) -> None:
        self._replicas = replicas
        self._now_ms = now_ms

    def relieve(self, log_dir: LogDir) -> bool:
        """Deletes segments of ``wanted_bytes`` in all, or as many as there are; their files are left to be unlinked. Returns
        whether it deleted any."""
        wanted_bytes = log_dir.wanted_bytes
        if not wanted_bytes:
            return False
        tiered = [p for p in self._replicas.in_log_dir(log_dir) if tiered_end_of(p) is not None]
        chosen = oldest(tiered, wanted_bytes)
        for partition, (end_offset, _) in chosen.items():
            self._delete(partition, end_offset)
        if chosen:
            freed_bytes = sum(size_bytes for _, size_bytes in chosen.values())
            logger.info(
                "the disk is nearly full: local copies of what is tiered are deleted early",
                log_dir=str(log_dir.path),
                bytes=freed_bytes,
            )
        elif log_dir.reserve_reached:
            self._roll_largest(tiered)
        return bool(chosen)

    def _delete(self, partition: Partition, end_offset: int) -> None:
        try:
            self._replicas.unlink_later(partition.log.delete_segments_below(end_offset, self._now_ms()))
        except DiskFull as error:
            logger.warning(
                "cannot delete: disk full", partition=str(partition.topic_partition), why=str(error)
            )
        except StorageError as error:
            self._replicas.on_storage_error(partition, error)

    def _roll_largest(self, tiered: Iterable[Partition]) -> None:
        copied = [p for p in tiered if p.leader is not None and not p.config.remote_log_copy_disable]
        if any(p.remote is not None and p.remote.end_offset < p.log.active_base_offset for p in copied):
            return  # sealed segments are still to be copied
        largest = max(copied, key=lambda p: p.log.segments.active.size_bytes, default=None)
        if largest is None or largest.log.segments.active.size_bytes < ROLL_FROM_BYTES:
            return
        try:
            largest.log.roll(self._now_ms())
        except DiskFull as error:
            logger.warning("cannot roll: disk full", partition=str(largest.topic_partition), why=str(error))
        except StorageError as error:
            self._replicas.on_storage_error(largest, error)
        else:
            logger.info(
                "the disk is nearly full: a segment was rolled, so that it can be copied",
                partition=str(largest.topic_partition),
            )


def tiered_end_of(partition: Partition) -> int | None:
    """Below which offset the tier has all that is here. None if this broker has not read it, or nothing may be removed."""
    if partition.offline is not None or partition.log.removals.are_held:
        return None
    if partition.leader is None:
        return partition.tiered_end_offset if partition.follower is not None else None
    remote = partition.remote
    return remote.end_offset if remote is not None and remote.is_loaded else None


def oldest(tiered: Iterable[Partition], wanted_bytes: int) -> dict[Partition, tuple[int, int]]:
    """The segments to delete: partition → (exclusive end offset, bytes)."""
    spares = sorted((spare for partition in tiered for spare in spares_of(partition)), key=lambda s: s[:2])
    chosen: dict[Partition, tuple[int, int]] = {}
    for spare in spares:
        if wanted_bytes <= 0:
            break
        wanted_bytes -= spare.size_bytes
        _, size_bytes = chosen.get(spare.partition, (0, 0))
        chosen[spare.partition] = (spare.end_offset, size_bytes + spare.size_bytes)
    return chosen


def spares_of(partition: Partition) -> list[Spare]:
    """The segments of one log that may be deleted, oldest first, since only a prefix of a log may go."""
    tiered_end = tiered_end_of(partition)
    assert tiered_end is not None
    end_offset = min(tiered_end, partition.high_watermark)
    found: list[Spare] = []
    age_ms = 0
    for number, segment in enumerate(partition.log.segments.sealed()):
        if segment.end_offset > end_offset:
            break
        age_ms = max(age_ms, segment.max_timestamp)
        found.append(Spare(age_ms, number, segment.size_bytes, segment.end_offset, partition))
    return found
