"""[S] The files that compaction writes: one ``.log.cleaned`` per group of sources, with its index entries.

Sources share a group while the group stays below the size of a segment. Where it is not known beforehand that
a source still fits, its output is held back (at most ``HELD_BYTES_MAX``) until it is. A group that would only
copy its one source byte for byte is dropped. Readers see nothing of this before the log swaps in a finished
group.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from tierlog.log.files.filesystem import Filesystem
from tierlog.log.files.names import CLEANED, LOG, segment_file
from tierlog.records.batch import walk
from tierlog.types import NO_TIMESTAMP, AbortedTransaction

HELD_BYTES_MAX = 8 * 1024 * 1024
MAX_RELATIVE_OFFSET = 2**31 - 1
WRITE_BYTES = 256 * 1024


class SourceSegment(Protocol):
    """A sealed segment; ``end_offset`` exclusive."""

    @property
    def base_offset(self) -> int: ...
    @property
    def end_offset(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def log_path(self) -> Path: ...


class CleanedSegment:
    """``<base offset>.log.cleaned``, which will replace the adjoining segments ``old_base_offsets``.

    Index entries are Kafka's: (last offset, position) of the first batch after each ``index.interval.bytes``, and
    for the same batch (largest timestamp so far, its offset). Offsets are absolute. Durable after ``finish``.
    """

    def __init__(
        self, filesystem: Filesystem, directory: Path, base_offset: int, index_interval_bytes: int
    ) -> None:
        self.base_offset = base_offset
        self.old_base_offsets: list[int] = []
        self.size_bytes = 0
        self.is_changed = False
        self.offset_index: list[tuple[int, int]] = []
        self.time_index: list[tuple[int, int]] = []
        self.aborted_transactions: list[AbortedTransaction] = []
        self.path = segment_file(directory, base_offset, LOG + CLEANED)
        self._filesystem = filesystem
        self._fd = filesystem.create(self.path)
        self._unwritten = bytearray()
        self._index_interval_bytes = index_interval_bytes
        self._bytes_since_index_entry = 0
        self._largest = (NO_TIMESTAMP, base_offset)

    def append(self, batches: memoryview) -> None:
        """Whole batches, offsets ascending."""
        position = self.size_bytes
        for at, header in walk(batches):
            if header.max_timestamp > self._largest[0]:
                self._largest = (header.max_timestamp, header.base_offset + header.last_offset_delta)
            if self._bytes_since_index_entry > self._index_interval_bytes:
                self.offset_index.append((header.base_offset + header.last_offset_delta, position + at))
                self._note_time()
                self._bytes_since_index_entry = 0
            self._bytes_since_index_entry += 12 + header.batch_length
        self.size_bytes = position + len(batches)
        self._unwritten += batches
        if len(self._unwritten) >= WRITE_BYTES:
            self._write()

    def start_over(self) -> None:
        """Drop all that was appended."""
        self.size_bytes = self._bytes_since_index_entry = 0
        self._largest = (NO_TIMESTAMP, self.base_offset)
        self._unwritten.clear()
        self.offset_index.clear()
        self.time_index.clear()
        self._filesystem.truncate(self._fd, 0)

    def finish(self) -> None:
        """Make the log file durable; no more appends."""
        if self._largest[0] >= 0:
            self._note_time()
        self._write()
        self._filesystem.fsync(self._fd)
        self._close()

    def discard(self) -> None:
        self._close()
        self._filesystem.unlink_if_there(self.path)

    def _note_time(self) -> None:
        if not self.time_index or self._largest[0] > self.time_index[-1][0]:
            self.time_index.append(self._largest)

    def _write(self) -> None:
        data, self._unwritten = self._unwritten, bytearray()
        self._filesystem.write_at(self._fd, data, self.size_bytes - len(data))

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class CompactionOutput:
    """Call ``begin``, any ``emit`` and ``end`` for each source in turn, then ``finish``.

    ``finished``: groups ready to be swapped in; the caller takes them out."""

    def __init__(
        self, filesystem: Filesystem, directory: Path, size_bytes_max: int, index_interval_bytes: int
    ) -> None:
        self.finished: list[CleanedSegment] = []
        self.written_bytes = 0
        self._filesystem = filesystem
        self._directory = directory
        self._size_bytes_max = size_bytes_max
        self._index_interval_bytes = index_interval_bytes
        self._group: CleanedSegment | None = None
        self._source: SourceSegment | None = None
        # Output held back for a source that may not fit into the group; None: output is written through.
        self._held: list[bytes | AbortedTransaction] | None = None
        self._held_bytes = 0

    def begin(self, source: SourceSegment) -> None:
        group = self._group
        self._source = source
        if group is None or source.end_offset - 1 - group.base_offset > MAX_RELATIVE_OFFSET:
            self._start_group()
        elif group.size_bytes and group.size_bytes + source.size_bytes > self._size_bytes_max:
            self._held = []
            self._held_bytes = 0

    def emit(self, batches: memoryview) -> None:
        if not len(batches):
            return
        if self._held is None:
            self._write(batches)
            return
        assert self._group is not None
        self._held.append(bytes(batches))
        self._held_bytes += len(batches)
        if self._held_bytes > min(HELD_BYTES_MAX, self._size_bytes_max - self._group.size_bytes):
            self._start_group()
            self._release_held()

    def emit_aborted(self, aborted: AbortedTransaction) -> None:
        if self._held is not None:
            self._held.append(aborted)
        else:
            assert self._group is not None
            self._group.aborted_transactions.append(aborted)

    def end(self, *, is_changed: bool) -> None:
        self._release_held()
        assert self._group is not None and self._source is not None
        self._group.old_base_offsets.append(self._source.base_offset)
        self._group.is_changed |= is_changed

    def finish(self) -> None:
        group, self._group = self._group, None
        if group is None:
            return
        if len(group.old_base_offsets) == 1 and not group.is_changed:
            group.discard()
            return
        self.finished.append(group)
        group.finish()

    def discard(self) -> None:
        """Remove the files that were written and not taken."""
        for group in [*self.finished, self._group]:
            if group is not None:
                group.discard()
        self.finished.clear()
        self._group = None

    def _start_group(self) -> None:
        assert self._source is not None
        self.finish()
        self._group = CleanedSegment(
            self._filesystem, self._directory, self._source.base_offset, self._index_interval_bytes
        )

    def _release_held(self) -> None:
        held, self._held = self._held, None
        for item in held or ():
            if isinstance(item, bytes):
                self._write(memoryview(item))
            else:
                self.emit_aborted(item)

    def _write(self, batches: memoryview) -> None:
        assert self._group is not None
        self._group.append(batches)
        self.written_bytes += len(batches)
