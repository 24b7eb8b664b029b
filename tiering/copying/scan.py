"""Reads a segment file once, checks that it may be copied (headers, CRCs, offsets) and gathers the footer.

[S] Synchronous; runs in a worker thread. Each read lets other threads have the interpreter, so an event loop in the same
process never waits for more than the walk over one buffer.

``WalkSegment`` is the walk in one call, if there is one. It stops at whatever is not plain; the code here is the definition,
looks at the same bytes from there on, and alone says what is wrong.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from crc32c import crc32c

from tiering.batches import CRC_START, HEADER_BYTES, LENGTH_END, MAGIC, Buffer, read_header
from tiering.codec import (
    CRC_CHUNK_BYTES,
    INDEX_INTERVAL_BYTES,
    SegmentFooter,
    trimmed_lineage,
)
from tiering.copying.source import CorruptSource, SegmentFile, SegmentSource

READ_BYTES = 1 << 20
BATCH_BYTES_MAX = (1 << 31) - 1
SLICE_BATCHES = 512
"""Batches walked before other threads get a turn: well below a millisecond each."""

State: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int, int]
"""Of a walk, in the order of ``_Walk._state``."""


class WalkSegment(Protocol):
    """Walks the whole batches at the front of ``data`` as ``_Walk`` does, while nothing is wrong with them."""

    def __call__(
        self,
        data: Buffer,
        state: State,
        base_offset: int,
        index_interval_bytes: int,
        crc_chunk_bytes: int,
        /,
    ) -> tuple[int, State, bytes, bytes, bytes, bytes, bytes]:
        """(bytes walked, the state behind them, and what to append to ``index_offsets``, ``index_positions``,
        ``time_timestamps``, ``time_offsets`` and ``chunk_crcs`` as the bytes of such arrays)."""
        ...


@dataclass(slots=True)
class Scanned:
    """What the scan found."""

    footer: SegmentFooter
    first_timestamp_ms: int
    max_timestamp_ms: int
    last_batch_epoch: int
    batch_count: int
    data_crc: int
    """CRC32C of all bytes."""


class _Walk:
    """State of one scan. Invariant: everything below ``position`` (relative to the range) is checked."""

    def __init__(self, source: SegmentSource, at_once: WalkSegment | None) -> None:
        self.source = source
        self._at_once = at_once
        self.position = 0
        self.batch_count = 0
        self.next_offset = -1
        self.first_timestamp_ms = -1
        self.max_timestamp_ms = -1
        self.last_batch_epoch = -1
        self.footer = SegmentFooter(
            base_offset=source.base_offset,
            end_offset=source.end_offset,
            data_bytes=source.end_position - source.start_position,
            aborted=tuple(source.aborted),
            lineage=trimmed_lineage(source.lineage, source.end_offset),
            producer_snapshot=source.producer_snapshot,
        )
        self._index_due = 0
        self._chunk_crc = 0
        self._data_crc = 0
        self._time_pending = self._time_pending_offset = -1
        """The largest timestamp that the time index lacks, -1 for none, and where it is."""

    def walk(self, data: memoryview) -> int:
        """Walk the whole batches at the front of ``data``, which begins at ``position``. Returns the bytes walked."""
        at = 0
        if self._at_once is not None:
            at = self._walk_at_once(self._at_once, data)
        looked_at = self._walk_each(data[at:])
        if looked_at:
            self._at_once = (
                None  # a sound segment that is not plain: its numbers may be beyond those of the call
            )
        return at + looked_at

    def _walk_at_once(self, walk: WalkSegment, data: memoryview) -> int:
        footer = self.footer
        columns = (footer.index_offsets, footer.index_positions, footer.time_timestamps, footer.time_offsets)
        at, self._state, *found = walk(
            data, self._state, self.source.base_offset, INDEX_INTERVAL_BYTES, CRC_CHUNK_BYTES
        )
        for column, values in zip((*columns, footer.chunk_crcs), found, strict=True):
            column.frombytes(values)
        return at

    @property
    def _state(self) -> State:
        return (
            *(self.position, self.batch_count, self.next_offset, self.last_batch_epoch),
            *(self.first_timestamp_ms, self.max_timestamp_ms, self._index_due),
            *(self._time_pending, self._time_pending_offset, self._chunk_crc, self._data_crc),
        )

    @_state.setter
    def _state(self, state: State) -> None:
        self.position, self.batch_count, self.next_offset, self.last_batch_epoch = state[:4]
        self.first_timestamp_ms, self.max_timestamp_ms, self._index_due = state[4:7]
        self._time_pending, self._time_pending_offset, self._chunk_crc, self._data_crc = state[7:]

    def _walk_each(self, data: memoryview) -> int:
        at = 0
        size = len(data)
        while at + HEADER_BYTES <= size:
            header = read_header(data, at)
            length = header.size_bytes
            if header.magic != MAGIC or not HEADER_BYTES <= length <= BATCH_BYTES_MAX:
                raise self._corrupt(f"no record batch of version 2 at byte {self.position + at}")
            if at + length > size:
                break
            if crc32c(data[at + CRC_START : at + length]) != header.crc:
                raise self._corrupt(f"the batch at offset {header.base_offset} fails its CRC")
            self._offsets(header.base_offset, header.end_offset, header.leader_epoch)
            self._index(self.position + at, header.base_offset, header.max_timestamp_ms)
            at += length
            self.batch_count += 1
            if not self.batch_count % SLICE_BATCHES:
                time.sleep(0)
        self._chunks(data[:at])
        return at

    def finish(self) -> Scanned:
        source, footer = self.source, self.footer
        if self.next_offset > source.end_offset:
            raise self._corrupt(f"batches end at offset {self.next_offset}, behind {source.end_offset}")
        if self.position % CRC_CHUNK_BYTES:
            footer.chunk_crcs.append(self._chunk_crc)
        self._note_time()
        return Scanned(
            footer,
            self.first_timestamp_ms,
            self.max_timestamp_ms,
            self.last_batch_epoch,
            self.batch_count,
            self._data_crc,
        )

    def _offsets(self, base: int, end: int, epoch: int) -> None:
        if end <= base:
            raise self._corrupt(f"the batch at offset {base} ends at {end}")
        if self.next_offset < 0:
            if end <= self.source.base_offset:
                raise self._corrupt(f"the first batch [{base}, {end}) ends before {self.source.base_offset}")
        elif base < self.next_offset:
            raise self._corrupt(f"offset {base} follows offset {self.next_offset - 1}")
        if epoch < self.last_batch_epoch:
            raise self._corrupt(f"the batch at offset {base} goes back to leader epoch {epoch}")
        self.next_offset = end
        self.last_batch_epoch = epoch

    def _index(self, position: int, base_offset: int, timestamp_ms: int) -> None:
        if self.batch_count == 0:
            self.first_timestamp_ms = timestamp_ms
        if position >= self._index_due:
            self.footer.index_offsets.append(base_offset)
            self.footer.index_positions.append(position)
            self._index_due = position + INDEX_INTERVAL_BYTES
            self._note_time()
        if timestamp_ms > self.max_timestamp_ms:
            self.max_timestamp_ms = timestamp_ms
            self._time_pending, self._time_pending_offset = timestamp_ms, base_offset

    def _note_time(self) -> None:
        if self._time_pending >= 0:
            self.footer.time_timestamps.append(self._time_pending)
            self.footer.time_offsets.append(self._time_pending_offset)
            self._time_pending = -1

    def _chunks(self, data: memoryview) -> None:
        """Advance ``position`` over ``data``, and the CRC of each chunk with it."""
        at = 0
        self._data_crc = crc32c(data, self._data_crc)
        while at < len(data):
            room = CRC_CHUNK_BYTES - self.position % CRC_CHUNK_BYTES
            piece = data[at : at + room]
            self._chunk_crc = crc32c(piece, self._chunk_crc)
            self.position += len(piece)
            at += len(piece)
            if self.position % CRC_CHUNK_BYTES == 0:
                self.footer.chunk_crcs.append(self._chunk_crc)
                self._chunk_crc = 0

    def _corrupt(self, what: str) -> CorruptSource:
        return CorruptSource(f"{self.source.path}: {what}")


def scan(source: SegmentSource, at_once: WalkSegment | None = None) -> Scanned:
    """Walk the range. Raises ``CorruptSource`` when the bytes contradict the source, and ``OSError``."""
    walk = _Walk(source, at_once)
    total = source.end_position - source.start_position
    if total <= 0 or source.end_offset <= source.base_offset:
        raise CorruptSource(f"{source.path}: nothing to copy")
    size = READ_BYTES
    with SegmentFile(source) as file:
        while walk.position < total:
            view = memoryview(file.read(walk.position, min(size, total - walk.position)))
            if walk.walk(view) == 0:
                size = _grown(view, total - walk.position, source.path)
    return walk.finish()


def _grown(view: memoryview, left: int, path: str) -> int:
    """How much to read for a batch that is larger than what was read; the file must hold it."""
    need = read_header(view, 0).size_bytes if len(view) >= HEADER_BYTES else left + 1
    if need > left or need < LENGTH_END:
        raise CorruptSource(f"{path}: the last batch is cut")
    return need
