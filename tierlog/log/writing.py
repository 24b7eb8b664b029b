"""The write of an append and its bookkeeping: prepared batches (``append``) are written, indexed and remembered.

Rules

* Nothing here refuses a batch: every reason to refuse was checked before the write.
* Any failure after the write is undone: first the file is cut back, so that bytes that were not acknowledged never
  precede later ones that are; then memory is rebuilt from the disk. If that fails too, the log ``is_broken`` and
  takes no more appends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tierlog.config.topic import TopicConfig
from tierlog.log.append import Prepared
from tierlog.log.files.filesystem import Filesystem, storage_error
from tierlog.log.files.names import LOG
from tierlog.log.flushing import Unsynced
from tierlog.log.leader_epochs import EpochLineage
from tierlog.log.noting import note_batches, with_producers
from tierlog.log.positions import BatchPositions
from tierlog.log.producers.snapshots import restore_producers
from tierlog.log.producers.state import ProducerState
from tierlog.log.segment import Segment
from tierlog.log.segments import Segments
from tierlog.records.batch import CONTROL_BIT
from tierlog.types import EpochEntry


class Written(Protocol):
    """The attributes of a log that an append changes."""

    filesystem: Filesystem
    directory: Path
    config: TopicConfig
    segments: Segments
    epochs: EpochLineage
    producers: ProducerState
    log_end_offset: int
    bytes_since_writeback: int
    is_broken: bool
    _positions: BatchPositions
    _unsynced: Unsynced
    _writeback_position: int

    def _roll(self, base_offset: int, now_ms: int) -> None: ...


def write(log: Written, prepared: Prepared, now_ms: int) -> None:
    """Write ``prepared`` at the end of the log, or raise an error and leave the log as it was (unless it
    ``is_broken``). Raises DiskFull, StorageError; anything else is a bug."""
    assert not log.is_broken, f"{log.directory} takes no more appends"
    records, headers, _ = prepared
    size_bytes = len(records)
    last = headers[-1]
    active = log.segments.active
    largest = last.max_timestamp if len(headers) == 1 else max([header.max_timestamp for header in headers])
    end_offset = log.log_end_offset
    lineage = None if last.partition_leader_epoch == log.epochs.latest_epoch else log.epochs.entries
    try:
        if active.is_roll_due(size_bytes, last.last_offset, largest, now_ms, log.config):
            log._roll(headers[0].base_offset, now_ms)
            active = log.segments.active
        position = active.size_bytes
        try:
            active.write(records)
            _remember(log, active, position, prepared, now_ms)
        except BaseException:
            if active.size_bytes != position:  # otherwise the write itself failed and has cut the file back
                undo(log, active, position, end_offset, now_ms, lineage)
            raise
    except OSError as error:
        raise storage_error(error, active.path(LOG)) from error


def _remember(log: Written, active: Segment, position: int, prepared: Prepared, now_ms: int) -> None:
    records, headers, markers = prepared
    producers, epoch = log.producers, None
    note_batches(active, position, records, headers)
    for at, header in with_producers(records, headers):
        if not header.attributes & CONTROL_BIT:
            producers.update(header, header.base_offset, now_ms)
        elif (marker := markers.get(at)) is not None:
            aborted = producers.end_transaction(header, header.base_offset, marker, now_ms)
            if aborted is not None:
                active.txn_index.append(aborted)
    for header in headers:
        if header.partition_leader_epoch != epoch:
            epoch = header.partition_leader_epoch
            log.epochs.assign(epoch, header.base_offset)
    end_offset = producers.map_end_offset = active.end_offset
    size_bytes = len(records)
    log._positions.note_appended(end_offset, active, position + size_bytes)
    log.segments.size_bytes += size_bytes
    log.bytes_since_writeback += size_bytes
    log.log_end_offset = end_offset


def undo(
    log: Written,
    active: Segment,
    position: int,
    end_offset: int,
    now_ms: int,
    lineage: tuple[EpochEntry, ...] | None = None,
) -> None:
    """Cut the file and rebuild memory as of ``end_offset``, its end before. ``lineage``: what it was, if it changed."""
    log.is_broken = True
    active.cut(position, end_offset)
    log.log_end_offset = end_offset
    log._positions.clear()
    log._unsynced.outdate_plans()
    log.segments.recount()
    log._writeback_position = min(log._writeback_position, position)
    if lineage is not None:
        log.epochs = EpochLineage(lineage)
    restore_producers(log.filesystem, log.directory, log.segments, end_offset, now_ms, log.producers)
    log.is_broken = False
