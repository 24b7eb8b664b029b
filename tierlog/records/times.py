"""Finds the record of a batch that answers a question about time; opens the batch piece by piece, no further than needed.

The functions are generators that yield between the pieces and return the answer: a batch may be made very large, and the
caller may stop at any yield. They raise InvalidBatch for a batch that cannot be opened, or whose records lie outside of
its offset range or have an impossible time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple, TypeAlias

from tierlog.errors import ErrorCode
from tierlog.records.batch import (
    DELETE_HORIZON_BIT,
    HEADER_BYTES,
    LOG_APPEND_TIME_BIT,
    BatchHeader,
    InvalidBatch,
)
from tierlog.records.compression import unpacked
from tierlog.records.spans import span_groups
from tierlog.types import Buffer

_EARLIEST, _LATEST = -(2**63), 2**63 - 1


class TimestampedRecord(NamedTuple):
    timestamp: int
    offset: int


Search: TypeAlias = Generator[None, None, TimestampedRecord | None]


def find_timestamp(
    buf: Buffer, pos: int, header: BatchHeader, timestamp: int, start_offset: int = 0
) -> Search:
    """The first record (by offset) of the batch at or above ``start_offset`` whose timestamp is at least ``timestamp``."""
    if header.max_timestamp < timestamp or header.records_count == 0:
        return None
    is_dense = header.records_count == header.last_offset_delta + 1
    if is_dense and start_offset <= header.base_offset:
        if header.attributes & LOG_APPEND_TIME_BIT:
            return TimestampedRecord(header.max_timestamp, header.base_offset)
        if timestamp <= header.base_timestamp and not header.attributes & DELETE_HORIZON_BIT:
            return TimestampedRecord(header.base_timestamp, header.base_offset)
    for group in _groups(buf, pos, header):
        for found in group:
            if found[1] >= start_offset and found[0] >= timestamp:
                return found
        yield
    return None


def find_max_timestamp(buf: Buffer, pos: int, header: BatchHeader, start_offset: int = 0) -> Search:
    """The first record of the batch at or above ``start_offset`` that has the largest timestamp there. None for an emptied
    batch, and when no record of that part has a timestamp."""
    if start_offset <= header.base_offset:
        return (yield from find_timestamp(buf, pos, header, header.max_timestamp))
    best = TimestampedRecord(-1, -1)
    if header.records_count:
        for group in _groups(buf, pos, header):
            for found in group:
                if found[1] >= start_offset and found[0] > best[0]:
                    best = found
            yield
    return best if best.offset >= 0 else None


def _groups(buf: Buffer, pos: int, header: BatchHeader) -> Iterator[list[TimestampedRecord]]:
    """Times of all records, in groups."""
    end = pos + header.size_bytes
    if end > len(buf):
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "batch is cut off")
    is_stamped = header.attributes & LOG_APPEND_TIME_BIT
    base_offset, base_timestamp, last_delta = (
        header.base_offset,
        header.base_timestamp,
        header.last_offset_delta,
    )
    pieces = unpacked(header.compression, memoryview(buf)[pos + HEADER_BYTES : end])
    for _, spans in span_groups(pieces, header.records_count, whole_records=False):
        found = []
        for span in spans:
            timestamp = header.max_timestamp if is_stamped else base_timestamp + span[2]
            if not (0 <= span[3] <= last_delta and _EARLIEST <= timestamp <= _LATEST):
                reason = f"a record at {span[3]} of {last_delta}, at time {timestamp}"
                raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, reason)
            found.append(TimestampedRecord(timestamp, base_offset + span[3]))
        yield found
