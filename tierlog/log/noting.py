"""Many batches noted together: in one call of the kernel where there is one, else one by one."""

from __future__ import annotations

from collections.abc import Sequence

from tierlog.kernel import compiled
from tierlog.log.producers.state import REMEMBERED_BATCHES_COUNT
from tierlog.log.segment import Segment
from tierlog.records.batch import LOG_OVERHEAD_BYTES, BatchHeader
from tierlog.types import Buffer

TOGETHER_COUNT = 4
"""Fewer are noted faster one by one."""


def note_batches(segment: Segment, position: int, data: Buffer, headers: Sequence[BatchHeader]) -> None:
    """``Segment.note_batch`` for each of ``headers``: those of the batches that ``data`` begins with, at ``position`` in the
    file."""
    if compiled is not None and len(headers) >= TOGETHER_COUNT:
        count, since, timestamp, offset, entries = compiled.noted(
            data,
            len(headers),
            position,
            segment.index_interval_bytes,
            segment.bytes_since_index_entry,
            segment.max_timestamp,
            segment.max_timestamp_offset,
        )
        if count == len(headers):
            if position == 0:
                segment.first_timestamp = headers[0].max_timestamp
            for last_offset, at, largest, largest_offset in entries:
                segment.offset_index.append(last_offset, at)
                segment.time_index.append(largest, largest_offset)
            segment.max_timestamp, segment.max_timestamp_offset = timestamp, offset
            segment.bytes_since_index_entry = since
            segment.end_offset = headers[-1].next_offset
            return
    for header in headers:
        size_bytes = LOG_OVERHEAD_BYTES + header.batch_length
        segment.note_batch(
            position, size_bytes, header.base_offset + header.last_offset_delta, header.max_timestamp
        )
        position += size_bytes


def with_producers(data: Buffer, headers: Sequence[BatchHeader]) -> list[tuple[int, BatchHeader]]:
    """(position, header) of those of which ``ProducerState`` must be told, among the batches that ``data`` begins with.
    Of many in a row that one producer wrote, the last ones are enough: it remembers no more."""
    if len(headers) == 1:
        return [(0, headers[0])] if headers[0].producer_id >= 0 else []
    if compiled is not None and len(headers) > REMEMBERED_BATCHES_COUNT:
        told = compiled.told(data, len(headers), REMEMBERED_BATCHES_COUNT)
        return [(position, headers[number]) for number, position in told]
    found, position = [], 0
    for header in headers:
        if header.producer_id >= 0:
            found.append((position, header))
        position += LOG_OVERHEAD_BYTES + header.batch_length
    return found
