"""Offsets by time, as ListOffsets asks: the first record at or after a timestamp, the record with the largest one.

Only the one batch that holds the answer is opened.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from tierlog.log.scan import FoundBatch, walk_headers
from tierlog.log.segment import Segment
from tierlog.log.segments import Segments
from tierlog.records.records import TimestampedRecord, find_max_timestamp, find_timestamp, read_records
from tierlog.types import NO_TIMESTAMP


class TimestampedOffset(NamedTuple):
    timestamp: int
    offset: int
    leader_epoch: int


def first_at_or_after(segments: Segments, timestamp: int, start_offset: int) -> TimestampedOffset | None:
    """The first record by offset, not below ``start_offset``, whose timestamp is >= ``timestamp``."""
    for segment in segments.starting_at(start_offset):
        if segment.size_bytes and segment.max_timestamp >= timestamp:
            found = _search(segments, segment, timestamp, start_offset)
            if found is not None:
                return found
    return None


def _search(
    segments: Segments, segment: Segment, timestamp: int, start_offset: int
) -> TimestampedOffset | None:
    segments.note_read(segment)
    fd = segment.descriptor.fd
    offset = max(segment.time_index.floor_offset(timestamp), start_offset)
    for batch in walk_headers(fd, segment.offset_index.floor_position(offset), segment.size_bytes):
        header = batch.header
        if header.max_timestamp >= timestamp and header.last_offset >= start_offset:
            data = os.pread(fd, header.size_bytes, batch.position)
            record = find_timestamp(data, 0, header, timestamp)
            if record is not None and record.offset < start_offset:
                record = _first_from(data, batch, timestamp, start_offset)
            if record is not None:
                return TimestampedOffset(record.timestamp, record.offset, header.partition_leader_epoch)
    return None


def _first_from(
    data: bytes, batch: FoundBatch, timestamp: int, start_offset: int
) -> TimestampedRecord | None:
    """The log start offset lies inside the batch: its first records do not exist any more."""
    for record in read_records(data, 0, batch.header):
        if record.offset >= start_offset and record.timestamp >= timestamp:
            return TimestampedRecord(record.timestamp, record.offset)
    return None


def largest(segments: Segments) -> TimestampedOffset | None:
    """The first record that has the largest timestamp of the local log; None without any timestamp."""
    best: Segment | None = None
    for segment in segments:
        if segment.size_bytes and segment.max_timestamp > (best.max_timestamp if best else NO_TIMESTAMP):
            best = segment
    if best is None:
        return None
    segments.note_read(best)
    fd = best.descriptor.fd
    position = best.offset_index.floor_position(best.max_timestamp_offset)
    for batch in walk_headers(fd, position, best.size_bytes):
        if batch.header.max_timestamp == best.max_timestamp:
            data = os.pread(fd, batch.header.size_bytes, batch.position)
            record = find_max_timestamp(data, 0, batch.header)
            if record is not None:
                return TimestampedOffset(record.timestamp, record.offset, batch.header.partition_leader_epoch)
    return None
