"""Producer snapshots on disk, and how the producer state is restored from them and the batches behind them.

A snapshot ``<offset>.snapshot`` is written at each roll and at a clean stop. State at an offset = the newest
readable snapshot at or below it, plus the batches from there to the offset. An unreadable snapshot is deleted: an
older one or the whole local log gives the same state.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tierlog.log.files.filesystem import Filesystem
from tierlog.log.files.names import SNAPSHOT, parse_segment_file, segment_file
from tierlog.log.producers.snapshot_file import CorruptSnapshot
from tierlog.log.producers.state import ProducerEntry, ProducerState, encode_entries
from tierlog.log.scan import FoundBatch, walk_headers
from tierlog.log.segment import Segment
from tierlog.log.segments import Segments
from tierlog.types import AbortedTransaction

INLINE_PRODUCERS_MAX = 500


class LoadedSnapshot(NamedTuple):
    """The bytes of a ``.snapshot`` file, and the state that they give."""

    data: bytes
    producers: ProducerState


def load_snapshot(data: bytes, offset: int, now_ms: int) -> LoadedSnapshot:
    """The state at ``offset``. Takes seconds for very many producers: call it in a thread. Raises CorruptSnapshot."""
    producers = ProducerState()
    producers.load_snapshot(data, offset, now_ms)
    return LoadedSnapshot(data, producers)


def no_producers(offset: int) -> LoadedSnapshot:
    producers = ProducerState()
    producers.map_end_offset = offset
    return LoadedSnapshot(producers.encode_snapshot(), producers)


def snapshot_offsets(directory: Path) -> list[int]:
    """Ascending."""
    parsed = (parse_segment_file(name) for name in os.listdir(directory))
    return sorted(found[0] for found in parsed if found and found[1:] == (SNAPSHOT, ""))


def write_snapshot(filesystem: Filesystem, directory: Path, producers: ProducerState, offset: int) -> Path:
    """Write the state at ``offset`` (the log end). Not fsynced: the flush plan does it."""
    path = segment_file(directory, offset, SNAPSHOT)
    filesystem.write_file(path, producers.encode_snapshot(), durable=False)
    return path


def remove_snapshots_above(filesystem: Filesystem, directory: Path, offset: int) -> None:
    for found in snapshot_offsets(directory):
        if found > offset:
            filesystem.unlink_if_there(segment_file(directory, found, SNAPSHOT))


def remove_stray_snapshots(filesystem: Filesystem, directory: Path, segments: Segments) -> None:
    """Keep the snapshots at the base of a segment and the newest one (of a clean stop)."""
    bases = {segment.base_offset for segment in segments}
    for found in snapshot_offsets(directory)[:-1]:
        if found not in bases:
            filesystem.unlink_if_there(segment_file(directory, found, SNAPSHOT))


def restore_producers(
    filesystem: Filesystem,
    directory: Path,
    segments: Segments,
    end_offset: int,
    now_ms: int,
    into: ProducerState,
) -> None:
    """Restore the state at ``end_offset``: load the newest usable snapshot, replay the batches of ``segments`` behind it."""
    load_newest_snapshot(filesystem, directory, end_offset, now_ms, into)
    start = into.map_end_offset
    for segment in segments.starting_at(start):
        if segment.base_offset >= end_offset:
            break
        replay_producers(segment, start, end_offset, now_ms, into)
    into.map_end_offset = max(into.map_end_offset, end_offset)


def load_newest_snapshot(
    filesystem: Filesystem, directory: Path, end_offset: int, now_ms: int, into: ProducerState
) -> None:
    """Load the newest usable snapshot at or below ``end_offset``; do nothing when there is none."""
    into.clear()
    for offset in reversed([found for found in snapshot_offsets(directory) if found <= end_offset]):
        path = segment_file(directory, offset, SNAPSHOT)
        try:
            into.load_snapshot(path.read_bytes(), offset, now_ms)
            return
        except CorruptSnapshot:
            filesystem.unlink_if_there(path)


class SnapshotWrite:
    """A snapshot of a state that was large at a roll: ``run`` it in a thread, before the next flush ends."""

    def __init__(
        self, filesystem: Filesystem, path: Path, offset: int, entries: Sequence[ProducerEntry]
    ) -> None:
        self.offset = offset
        self.path = path
        self.is_done = False
        self.is_cancelled = False
        self._filesystem = filesystem
        self._entries = entries

    def run(self) -> None:
        """Raises OSError."""
        if self.is_done:
            return
        with suppress(FileNotFoundError):  # the whole log was deleted
            self._filesystem.write_file(self.path, encode_entries(self._entries), durable=False)
        self.is_done = True
        if self.is_cancelled:  # the log was truncated meanwhile: the snapshot's offset is gone
            self._filesystem.unlink_if_there(self.path)


class SnapshotWrites:
    """Pending snapshot writes of one log. Bound: one per roll since the last flush, of references to the entries."""

    __slots__ = ("_directory", "_filesystem", "pending")

    def __init__(self, filesystem: Filesystem, directory: Path) -> None:
        self._filesystem = filesystem
        self._directory = directory
        self.pending: list[SnapshotWrite] = []

    def write(self, producers: ProducerState, offset: int) -> Path:
        """Write the state at ``offset``, the log end: now, or with the next flush when it takes long."""
        if len(producers) <= INLINE_PRODUCERS_MAX:
            return write_snapshot(self._filesystem, self._directory, producers, offset)
        path = segment_file(self._directory, offset, SNAPSHOT)
        self.pending.append(SnapshotWrite(self._filesystem, path, offset, producers.freeze()))
        return path

    def due(self) -> tuple[SnapshotWrite, ...]:
        self.pending = [write for write in self.pending if not write.is_done]
        return tuple(self.pending)

    def is_pending(self, offset: int) -> bool:
        return any(write.offset == offset and not write.is_done for write in self.pending)

    def cancel(self) -> None:
        """The log is truncated; files that a thread has already written are removed with the other snapshots."""
        for write in self.pending:
            write.is_cancelled = True
        self.pending.clear()


def replay_producers(segment: Segment, start: int, end: int, now_ms: int, into: ProducerState) -> None:
    if end <= start or not segment.size_bytes:
        return
    fd = segment.descriptor.fd
    for found in walk_headers(fd, segment.offset_index.floor_position(start), segment.size_bytes):
        if found.header.base_offset >= end:
            break
        if found.header.base_offset >= start:
            replay_batch(fd, found, now_ms, into)


def replay_batch(fd: int, found: FoundBatch, now_ms: int, into: ProducerState) -> AbortedTransaction | None:
    """Control batches are read whole; for all others the header is enough. A stored batch is never refused."""
    header = found.header
    if header.is_control and header.has_producer_id:
        return into.replay(os.pread(fd, header.size_bytes, found.position), 0, header, now_ms)
    return into.replay(found.buffer, found.at, header, now_ms)
