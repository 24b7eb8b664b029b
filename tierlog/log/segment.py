"""One segment: a ``.log`` file and its indexes, kept consistent with each other.

Rules

* Memory changes only after the write that it describes has succeeded; a failed or short write is cut off again.
* ``size_bytes`` is the end of the valid bytes in the file; bytes behind it are preallocation or a torn write.
* Index entries follow Kafka: one per ``index.interval.bytes``, for the batch *after* the interval, and a time index
  entry with the largest timestamp so far; sealing adds the last one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from tierlog.config.topic import TopicConfig
from tierlog.log.files.filesystem import Descriptor, Filesystem, is_no_space
from tierlog.log.files.names import (
    DELETED,
    LOG,
    OFFSET_INDEX,
    SEGMENT_SUFFIXES,
    SNAPSHOT,
    TIME_INDEX,
    TXN_INDEX,
    segment_file,
)
from tierlog.log.indexes import MAX_RELATIVE_OFFSET, OffsetIndex, TimeIndex
from tierlog.log.scan import walk_headers
from tierlog.log.txn_index import TransactionIndex
from tierlog.types import NO_TIMESTAMP


class SealedSegment(NamedTuple):
    """A closed segment as others may read it. ``end_offset`` is exclusive. ``txn_index_path`` exists only when a
    transaction was aborted in it; ``snapshot_path`` (producers at ``end_offset``) unless the file was lost."""

    base_offset: int
    end_offset: int
    size_bytes: int
    max_timestamp: int
    log_path: Path
    offset_index_path: Path
    time_index_path: Path
    txn_index_path: Path
    snapshot_path: Path


class UnlinkLater(NamedTuple):
    """A renamed file or directory that the driver must remove at ``due_ms``."""

    path: Path
    due_ms: int


class Segment:
    """``end_offset`` is exclusive, and exact once sealed; for the active segment use the log end offset instead."""

    __slots__ = (
        "_descriptor",
        "base_offset",
        "bytes_since_index_entry",
        "created_ms",
        "directory",
        "end_offset",
        "filesystem",
        "first_timestamp",
        "index_interval_bytes",
        "is_sealed",
        "max_timestamp",
        "max_timestamp_offset",
        "offset_index",
        "roll_jitter_ms",
        "size_bytes",
        "time_index",
        "txn_index",
    )

    def __init__(
        self, filesystem: Filesystem, directory: Path, base_offset: int, config: TopicConfig, created_ms: int
    ) -> None:
        self.filesystem = filesystem
        self.directory = directory
        self.base_offset = base_offset
        self.end_offset = base_offset
        self.size_bytes = 0
        self.is_sealed = False
        self.created_ms = created_ms
        self.first_timestamp = (
            NO_TIMESTAMP  # the max timestamp of the first batch, in ms; the age for segment.ms counts from it
        )
        self.max_timestamp = NO_TIMESTAMP
        self.max_timestamp_offset = base_offset
        self.roll_jitter_ms = 0
        self.bytes_since_index_entry = 0
        self.index_interval_bytes = config.index_interval_bytes
        index_bytes = config.segment_index_bytes
        self.offset_index = OffsetIndex(filesystem, self.path(OFFSET_INDEX), base_offset, index_bytes)
        self.time_index = TimeIndex(filesystem, self.path(TIME_INDEX), base_offset, index_bytes)
        self.txn_index = TransactionIndex(filesystem, self.path(TXN_INDEX))
        self._descriptor: Descriptor | None = None

    @classmethod
    def create(
        cls, filesystem: Filesystem, directory: Path, base_offset: int, config: TopicConfig, created_ms: int
    ) -> Segment:
        """Raises OSError and then leaves no files behind."""
        segment = cls(filesystem, directory, base_offset, config, created_ms)
        try:
            segment._descriptor = Descriptor(filesystem.create(segment.path(LOG)))
            if config.preallocate:
                segment._preallocate(config.segment_bytes)
            segment.txn_index.reset()
            segment.offset_index.reset()
            segment.time_index.reset()
        except OSError:
            with suppress(OSError):
                segment.unlink()
            raise
        return segment

    def spread_roll(self, log_name: str, config: TopicConfig) -> None:
        """Apply ``segment.jitter.ms``: spread over partitions, the same at every start, so no randomness is needed."""
        if config.segment_jitter_ms:
            seed = crc32(f"{log_name}-{self.base_offset}".encode())
            self.roll_jitter_ms = seed % min(config.segment_jitter_ms, config.segment_ms)

    def _preallocate(self, size_bytes: int) -> None:
        """Preallocate if there is room for all of it; the segment also works without."""
        try:
            self.filesystem.allocate(self.descriptor.fd, size_bytes)
        except OSError as error:
            if not is_no_space(error):
                raise
            self.filesystem.truncate(self.descriptor.fd, 0)

    def __repr__(self) -> str:
        return f"Segment({self.base_offset}..{self.end_offset}, {self.size_bytes} bytes)"

    def path(self, suffix: str) -> Path:
        return segment_file(self.directory, self.base_offset, suffix)

    @property
    def descriptor(self) -> Descriptor:
        if self._descriptor is None:
            self._descriptor = Descriptor.open(self.path(LOG))
        return self._descriptor

    @property
    def is_open(self) -> bool:
        return self._descriptor is not None

    def release(self) -> None:
        """Drop the descriptor and the maps; a reader with a slice keeps its own."""
        self._descriptor = None
        self.drop_maps()

    def drop_maps(self) -> None:
        """Drop the maps of the indexes and their descriptors; look-ups make them again."""
        self.offset_index.drop_map()
        self.time_index.drop_map()

    # -- writing

    def write(self, data: memoryview) -> None:
        """Write all of ``data`` at the end of the file, or raise OSError and leave the file as it was.

        The caller then describes each batch with ``note_batch``."""
        descriptor, position = self._descriptor or self.descriptor, self.size_bytes
        size = len(data)
        try:
            written = self.filesystem.pwrite(descriptor.fd, data, position)
            if written != size:
                self.filesystem.write_at(descriptor.fd, data[written:], position + written)
            self.size_bytes = position + size
        except BaseException:
            self.size_bytes = position
            self.filesystem.truncate(descriptor.fd, position)
            raise

    def note_batch(self, position: int, size_bytes: int, last_offset: int, max_timestamp: int) -> None:
        """Index a batch that lies at ``position``. Appends, recovery and rebuilds all use this."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if position == 0:
            self.first_timestamp = max_timestamp
        since = self.bytes_since_index_entry
        if since > self.index_interval_bytes:
            self.offset_index.append(last_offset, position)
            self.time_index.append(self.max_timestamp, self.max_timestamp_offset)
            since = 0
        self.bytes_since_index_entry = since + size_bytes
        self.end_offset = last_offset + 1

    def is_roll_due(
        self, incoming_bytes: int, last_offset: int, max_timestamp: int, now_ms: int, config: TopicConfig
    ) -> bool:
        """Kafka's rule: size, age, full index, offsets beyond 32 bits. Age runs on record time once there is any."""
        if self.size_bytes > config.segment_bytes - incoming_bytes:
            return self.size_bytes > 0
        if last_offset - self.base_offset > MAX_RELATIVE_OFFSET:
            return True
        if self.offset_index.is_full or self.time_index.is_full:
            return self.size_bytes > 0
        if self.size_bytes == 0:
            return False
        waited = (
            max_timestamp - self.first_timestamp
            if self.first_timestamp >= 0 and max_timestamp >= 0
            else now_ms - self.created_ms
        )
        return waited > config.segment_ms - self.roll_jitter_ms

    def seal(self) -> None:
        """No more appends: add the last time index entry, write both indexes to disk, cut off the preallocation."""
        if self.max_timestamp >= 0:
            self.time_index.append(self.max_timestamp, self.max_timestamp_offset)
        self.write_out_indexes()
        self.cut_preallocation()
        self.is_sealed = True

    def write_out_indexes(self) -> None:
        self.offset_index.write_out()
        self.time_index.write_out()
        self.txn_index.write_out()

    def cut_preallocation(self) -> None:
        if self.path(LOG).stat().st_size != self.size_bytes:
            self.filesystem.truncate(self.descriptor.fd, self.size_bytes)

    # -- loading and cutting

    def load(self) -> None:
        """Trust the file after a clean stop: size from the file, ends from the indexes.

        Raises ValueError (indexes unusable) or FileNotFoundError (index missing): rebuild the indexes then."""
        self.size_bytes = self.path(LOG).stat().st_size
        self.offset_index.load()
        self.time_index.load()
        self.txn_index.load()
        if self.offset_index.last_position() >= max(self.size_bytes, 1):
            raise ValueError(f"{self.offset_index.path.name} points behind the end of the log")
        timestamp, offset = self.time_index.last()
        if timestamp >= 0:
            self.max_timestamp, self.max_timestamp_offset = timestamp, offset

    def load_end(self) -> bool:
        """Walk from the last index entry to the end of the file to find end offset, largest and first timestamp.

        False when the walk does not end exactly at the end of the file."""
        position = self.offset_index.last_position()
        fd = self.descriptor.fd
        start = position
        for found in walk_headers(fd, position, self.size_bytes):
            header = found.header
            position = found.position + header.size_bytes
            self.end_offset = header.next_offset
            if header.max_timestamp > self.max_timestamp:
                self.max_timestamp, self.max_timestamp_offset = header.max_timestamp, header.last_offset
        self.bytes_since_index_entry = position - start
        first = next(walk_headers(fd, 0, self.size_bytes, chunk_bytes=61), None)
        self.first_timestamp = first.header.max_timestamp if first else NO_TIMESTAMP
        return position == self.size_bytes

    def batch_base_offset(self, position: int) -> int:
        """Base offset of the batch that starts at ``position``."""
        return int.from_bytes(os.pread(self.descriptor.fd, 8, position), "big")

    def forget_contents(self) -> None:
        """Before the batches are noted again: empty the indexes, forget the largest timestamp."""
        self.offset_index.reset()
        self.time_index.reset()
        self.txn_index.reset()
        self.forget_timestamps()
        self.bytes_since_index_entry = 0
        self.end_offset = self.base_offset

    def forget_timestamps(self) -> None:
        self.max_timestamp = NO_TIMESTAMP
        self.max_timestamp_offset = self.base_offset
        self.first_timestamp = NO_TIMESTAMP

    def cut(self, position: int, end_offset: int) -> None:
        """End the segment at byte ``position`` and offset ``end_offset`` (exclusive); it takes appends again."""
        self.filesystem.truncate(self.descriptor.fd, position)
        self.size_bytes = position
        self.is_sealed = False
        self.offset_index.truncate_to(end_offset)
        self.time_index.truncate_to(end_offset)
        self.txn_index.truncate_to(end_offset)
        self.forget_timestamps()
        timestamp, offset = self.time_index.last()
        if timestamp >= 0:
            self.max_timestamp, self.max_timestamp_offset = timestamp, offset
        self.load_end()
        self.end_offset = end_offset

    def trusted_timestamp_ms(self, now_ms: int) -> int:
        """The time that tells the segment's age: the largest record timestamp. When there is none, or it lies in the future,
        the time of the last write, which is about that of the roll. If that is in the future too (the clock was ahead, and
        was set back), its age counts from the first look after that."""
        largest_ms = self.max_timestamp
        if 0 <= largest_ms <= now_ms:
            return largest_ms
        written_ms = int(self.path(LOG).stat().st_mtime * 1000)
        if written_ms <= now_ms:
            return written_ms
        self.created_ms = min(self.created_ms, now_ms)
        return self.created_ms

    # -- leaving

    def files(self) -> tuple[Path, ...]:
        return tuple(self.path(suffix) for suffix in (*SEGMENT_SUFFIXES, SNAPSHOT))

    def unlink(self) -> None:
        """Remove all files but the snapshot at the base, which holds the state before the segment. The ``.log`` goes last,
        so that an interrupted removal leaves a segment that can be recovered."""
        self.release()
        for suffix in reversed(SEGMENT_SUFFIXES):
            self.filesystem.unlink_if_there(self.path(suffix))

    def rename_deleted(self, with_snapshot: bool) -> list[Path]:
        """Rename every file to ``.deleted``. Returns the new paths. Readers with a slice go on."""
        self.release()
        renamed = []
        for path in self.files() if with_snapshot else self.files()[:-1]:
            target = path.with_name(path.name + DELETED)
            if self.filesystem.rename_if_there(path, target):
                renamed.append(target)
        return renamed

    def describe(self) -> SealedSegment:
        return SealedSegment(
            self.base_offset,
            self.end_offset,
            self.size_bytes,
            self.max_timestamp,
            self.path(LOG),
            self.path(OFFSET_INDEX),
            self.path(TIME_INDEX),
            self.path(TXN_INDEX),
            segment_file(self.directory, self.end_offset, SNAPSHOT),
        )
