"""Offsets by time, as ListOffsets asks: the first record at or after a timestamp, the record with the largest one.

Only the one batch that holds the answer is opened.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from tierlog.log.scan import FoundBatch, walk_headers
from tierlog.log.segment import Segment
from tierlog.log.segments import Segments
from tierlog.records.batch import BatchHeader
from tierlog.records.records import TimestampedRecord, find_max_timestamp, find_timestamp, read_records
from tierlog.types import NO_TIMESTAMP, Buffer


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


def largest(segments: Segments, start_offset: int) -> TimestampedOffset | None:
    """The first record that has the largest timestamp at or above ``start_offset``; None without any timestamp."""
    cut: Segment | None = None
    best: Segment | None = None
    for segment in segments.starting_at(start_offset):
        if segment.size_bytes and segment.base_offset < start_offset:
            cut = segment
        elif segment.size_bytes and segment.max_timestamp > (best.max_timestamp if best else NO_TIMESTAMP):
            best = segment
    if cut is not None and (best is None or cut.max_timestamp >= best.max_timestamp):
        found = _largest_from(segments, cut, start_offset)
        if found is not None and (best is None or found.timestamp >= best.max_timestamp):
            return found
    return None if best is None else _largest_of(segments, best)


def _largest_of(segments: Segments, segment: Segment) -> TimestampedOffset | None:
    segments.note_read(segment)
    fd = segment.descriptor.fd
    position = segment.offset_index.floor_position(segment.max_timestamp_offset)
    for batch in walk_headers(fd, position, segment.size_bytes):
        if batch.header.max_timestamp == segment.max_timestamp:
            return _largest_in(fd, batch, 0)
    return None


def _largest_from(segments: Segments, segment: Segment, start_offset: int) -> TimestampedOffset | None:
    """In the segment that the log start offset cuts; only the cut batch and the one with the answer are opened."""
    segments.note_read(segment)
    fd = segment.descriptor.fd
    found: TimestampedOffset | None = None
    largest_batch: FoundBatch | None = None
    largest_timestamp = NO_TIMESTAMP
    for batch in walk_headers(fd, segment.offset_index.floor_position(start_offset), segment.size_bytes):
        header = batch.header
        if header.last_offset < start_offset or header.max_timestamp <= largest_timestamp:
            continue
        if header.base_offset < start_offset:
            found = _largest_in(fd, batch, start_offset)
            largest_timestamp = found.timestamp if found else NO_TIMESTAMP
        else:
            largest_batch, largest_timestamp = batch, header.max_timestamp
    return found if largest_batch is None else _largest_in(fd, largest_batch, start_offset)


def _largest_in(fd: int, batch: FoundBatch, start_offset: int) -> TimestampedOffset | None:
    """In one batch, at or above ``start_offset``."""
    header = batch.header
    data = os.pread(fd, header.size_bytes, batch.position)
    record: TimestampedRecord | None
    if header.base_offset >= start_offset:
        record = find_max_timestamp(data, 0, header)
    else:
        record = largest_record(data, header, start_offset)
    if record is None:
        return None
    return TimestampedOffset(record.timestamp, record.offset, header.partition_leader_epoch)


def largest_record(data: Buffer, header: BatchHeader, start_offset: int) -> TimestampedRecord | None:
    """The first record with the largest timestamp at or above ``start_offset``, of a batch that this offset cuts."""
    visible = [record for record in read_records(data, 0, header) if record.offset >= start_offset]
    best = max(visible, key=lambda record: record.timestamp, default=None)  # the first of equal ones
    return None if best is None or best.timestamp < 0 else TimestampedRecord(best.timestamp, best.offset)
