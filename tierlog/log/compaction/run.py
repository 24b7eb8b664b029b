"""[S] Rewrites the sealed segments of a compacted log, a slice at a time.

Two walks: the first fills the offset map from the dirty range; the second filters every segment below the map's
end into new ``.cleaned`` files, small neighbours into one. The log swaps in a finished group with
``replace_segments``. Until then readers see no change, so a crash or ``close`` at any point loses nothing::

    run = compaction_run(log, checkpoint_offset, high_watermark, now_ms)
    for cleaned in run.steps() if run else ():   # each step reads about slice_bytes; any thread, one at a
    time
        if cleaned is not None:                  # on the log's own thread
            unlink_later(log.replace_segments([cleaned], now_ms))
    checkpoint[topic_partition] = run.end_offset

The caller keeps retention and truncation away from the log while a run is on.
Memory: the offset map's bound, one slice or one batch, and ``HELD_BYTES_MAX`` of output.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from struct import error as StructError

from crc32c import crc32c

from tierlog.config.topic import TopicConfig
from tierlog.errors import ErrorCode
from tierlog.log.compaction.filter import (
    KEEP,
    BatchFilter,
    RetentionRules,
    TransactionView,
    require_crc,
    require_offsets_in_range,
)
from tierlog.log.compaction.output import CleanedSegment, CompactionOutput, SourceSegment
from tierlog.log.compaction.plan import (
    DEFAULT_MAP_LIMIT_BYTES,
    CompactionPlan,
    CompactionSegment,
    OffsetMap,
    plan,
)
from tierlog.log.files.filesystem import REAL, Filesystem, storage_error
from tierlog.log.log import Log
from tierlog.log.producers.state import ProducerEntry, last_batches
from tierlog.records.batch import (
    ATTRIBUTES_AT,
    COMPRESSION_MASK,
    CONTROL_BIT,
    HEADER_BYTES,
    LOG_OVERHEAD_BYTES,
    TRANSACTIONAL_BIT,
    BatchHeader,
    InvalidBatch,
    parse_header,
)
from tierlog.records.control import read_control_type
from tierlog.records.records import records_body
from tierlog.records.spans import record_keys
from tierlog.types import AbortedTransaction

SLICE_BYTES = 128 * 1024
_TIME_INDEX_ENTRY_BYTES = 12


@dataclass(slots=True)
class CompactionStats:
    read_bytes: int = 0
    written_bytes: int = 0
    read_records_count: int = 0
    kept_records_count: int = 0
    unreadable_batches_count: int = 0
    map_keys_count: int = 0
    map_bytes: int = 0


def plan_of(
    log: Log, checkpoint_offset: int | None, high_watermark: int, now_ms: int
) -> CompactionPlan | None:
    """The log's current compaction plan; cheap enough to compute for every compacted log now and then."""
    first_unstable = log.first_unstable_offset
    return plan(
        [
            CompactionSegment(
                segment.base_offset, segment.end_offset, segment.size_bytes, segment.max_timestamp
            )
            for segment in log.sealed_segments()
        ],
        log.config,
        checkpoint_offset=checkpoint_offset,
        log_start_offset=log.log_start_offset,
        cleanable_end_offset=high_watermark
        if first_unstable is None
        else min(high_watermark, first_unstable),
        now_ms=now_ms,
    )


def compaction_run(
    log: Log,
    checkpoint_offset: int | None,
    high_watermark: int,
    now_ms: int,
    map_limit_bytes: int = DEFAULT_MAP_LIMIT_BYTES,
) -> CompactionRun | None:
    """A round over ``log``, if one is due."""
    due = plan_of(log, checkpoint_offset, high_watermark, now_ms)
    if due is None or not due.is_due:
        return None
    sealed = log.sealed_segments()
    return CompactionRun(
        sealed,
        due,
        log.config,
        aborted=log.aborted_transactions(sealed[0].base_offset, due.end_offset),
        producers=log.producers.freeze(),
        now_ms=now_ms,
        directory=log.directory,
        filesystem=log.filesystem,
        map_limit_bytes=map_limit_bytes,
    )


class CompactionRun:
    """``end_offset``: exclusive; the next round's first dirty offset, valid once ``steps`` has ended."""

    def __init__(
        self,
        sealed: Sequence[SourceSegment],
        plan: CompactionPlan,
        config: TopicConfig,
        *,
        aborted: Sequence[AbortedTransaction],
        producers: Iterable[ProducerEntry],
        now_ms: int,
        directory: Path,
        filesystem: Filesystem = REAL,
        map_limit_bytes: int = DEFAULT_MAP_LIMIT_BYTES,
        slice_bytes: int = SLICE_BYTES,
    ) -> None:
        """``aborted``: the aborted transactions that overlap ``[sealed[0].base_offset, plan.end_offset)``.
        ``producers``: the log's, in entries that nobody changes any more."""
        self._sources = [segment for segment in sealed if segment.base_offset < plan.end_offset]
        self._plan = plan
        self._aborted = aborted
        self._producers = producers
        self._now_ms = now_ms
        self._delete_retention_ms = config.delete_retention_ms
        self._slice_bytes = slice_bytes
        self._map = OffsetMap(map_limit_bytes)
        self._map_full_at: int | None = None
        index_entries_max = config.segment_index_bytes // _TIME_INDEX_ENTRY_BYTES
        size_bytes_max = min(config.segment_bytes, index_entries_max * max(config.index_interval_bytes, 1))
        self._output = CompactionOutput(filesystem, directory, size_bytes_max, config.index_interval_bytes)
        self.end_offset = plan.first_dirty_offset
        self.stats = CompactionStats()

    def steps(self) -> Iterator[CleanedSegment | None]:
        """Yields None after each slice, and a CleanedSegment when it is to be swapped in. Raises InvalidBatch for
        a segment that cannot be trusted, and StorageError from the disk. Unfinished output is then removed, as it
        is on close."""
        try:
            yield from self._fill_map()
            yield from self._rewrite()
        except OSError as error:
            raise storage_error(error, error.filename or "compaction") from error
        except (OverflowError, StructError) as error:
            # No record can have this offset or time: nobody opened the batch when it was written.
            raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"a number is out of range: {error}") from error
        finally:
            self._output.discard()

    # -- first walk

    def _fill_map(self) -> Iterator[None]:
        first_dirty = self._plan.first_dirty_offset
        # Older transactions would be opened and never closed: this walk does not meet their markers.
        transactions = TransactionView([txn for txn in self._aborted if txn.last_offset >= first_dirty])
        end_offset = first_dirty
        for source in self._sources:
            if source.end_offset <= first_dirty:
                continue
            yield from self._visit(source, partial(self._map_slice, first_dirty, transactions))
            if self._map_full_at is not None:
                end_offset = self._map_full_at
                break
            end_offset = source.end_offset
        self._map.freeze(end_offset)
        self._map_full_at = None
        self.end_offset = end_offset
        self.stats.map_keys_count = len(self._map)
        self.stats.map_bytes = self._map.size_bytes

    def _map_slice(self, first_dirty: int, transactions: TransactionView, buf: bytes) -> int:
        """Offer the keys of the whole batches in ``buf``. Returns the number of bytes consumed.

        The bound is checked between batches, so the map may exceed it by the keys of one batch."""
        offset_map = self._map
        put = offset_map.put
        view = memoryview(buf)
        at, end = 0, len(buf)
        while end - at >= HEADER_BYTES:
            header = parse_header(buf, at)
            following = at + LOG_OVERHEAD_BYTES + header.batch_length
            if following > end:
                break
            base_offset, attributes = header.base_offset, header.attributes
            if attributes & CONTROL_BIT:
                with suppress(InvalidBatch):
                    transactions.has_outlived(read_control_type(buf, at, header), header)
            elif base_offset + header.last_offset_delta >= first_dirty:
                if offset_map.is_full:
                    self._map_full_at = base_offset
                    break
                if not attributes & TRANSACTIONAL_BIT or not transactions.is_aborted(header):
                    if crc32c(view[at + ATTRIBUTES_AT : following]) != header.crc:
                        require_crc(buf, at, header)
                    try:
                        body, keys = keys_of(buf, at, header)
                    except InvalidBatch:
                        offset_map.keep(base_offset)
                        keys = []
                    for offset_delta, key_start, key_end in keys:
                        if key_start >= 0:
                            put(body[key_start:key_end], base_offset + offset_delta)
            at = following
        return at

    # -- second walk

    def _rewrite(self) -> Iterator[CleanedSegment | None]:
        rules = RetentionRules(self._now_ms, self._delete_retention_ms, last_batches(self._producers))
        batch_filter = BatchFilter(
            self._map, self._plan.first_dirty_offset, rules, TransactionView(self._aborted)
        )
        for source in self._sources:
            if source.base_offset >= self.end_offset:
                break
            self._output.begin(source)
            is_changed = [False]
            visit = partial(self._filter_slice, batch_filter, is_changed)
            for _ in self._visit(source, visit):
                yield from self._finished()
                yield None
            self._output.end(is_changed=is_changed[0])
        self._output.finish()
        self.stats.written_bytes = self._output.written_bytes
        self.stats.read_records_count = batch_filter.read_count
        self.stats.kept_records_count = batch_filter.kept_count
        self.stats.unreadable_batches_count = batch_filter.unreadable_count
        yield from self._finished()

    def _filter_slice(self, batch_filter: BatchFilter, is_changed: list[bool], buf: bytes) -> int:
        """Filter the whole batches in ``buf``. Returns the number of bytes consumed. Adjoining batches that stay
        unchanged are written as one."""
        decide, transactions, emit = batch_filter.decide, batch_filter.transactions, self._output.emit
        view = memoryview(buf)
        at, end = 0, len(buf)
        run_start = 0
        while end - at >= HEADER_BYTES:
            header = parse_header(buf, at)
            following = at + LOG_OVERHEAD_BYTES + header.batch_length
            if following > end:
                break
            outcome = decide(buf, at, header)
            if outcome is not KEEP:
                is_changed[0] = True
                emit(view[run_start:at])
                run_start = following
                if outcome is not None:
                    emit(memoryview(outcome))
            at = following
            if transactions.retained:
                for aborted in transactions.retained:
                    self._output.emit_aborted(aborted)
                transactions.retained.clear()
        emit(view[run_start:at])
        return at

    def _visit(self, source: SourceSegment, visit: Callable[[bytes], int]) -> Iterator[None]:
        """Hand the segment to ``visit`` in slices; ``visit`` returns how many bytes of whole batches it consumed.

        Raises InvalidBatch when the file does not hold exactly whole batches."""
        fd = os.open(source.log_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            position, wanted = 0, self._slice_bytes
            while position < source.size_bytes:
                wanted = min(wanted, source.size_bytes - position)
                buf = os.pread(fd, wanted, position)
                if len(buf) < wanted:
                    raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{source.log_path} is shorter than known")
                consumed = visit(buf)
                if self._map_full_at is not None:
                    return
                if consumed:
                    position += consumed
                    wanted = self._slice_bytes
                    self.stats.read_bytes += consumed
                    yield None
                    continue
                wanted = parse_header(buf).size_bytes
                if wanted > source.size_bytes - position:
                    raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{source.log_path} ends within a batch")
        finally:
            os.close(fd)

    def _finished(self) -> Iterator[CleanedSegment]:
        while self._output.finished:
            yield self._output.finished.pop(0)


def keys_of(buf: bytes, at: int, header: BatchHeader) -> tuple[bytes, list[tuple[int, int, int]]]:
    """The unpacked body of the batch at ``at``, and (offset delta, key start, key end) of its records. Raises InvalidBatch
    if they cannot be told."""
    if header.attributes & COMPRESSION_MASK:
        body = records_body(buf, at, header)
    else:
        body = buf[at + HEADER_BYTES : at + header.size_bytes]
    keys = record_keys(body, header.records_count)
    require_offsets_in_range(header, [key[0] for key in keys])
    return body, keys
