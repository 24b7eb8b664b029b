"""Offsets by time, for ListOffsets: the first record at or after a timestamp, the record with the largest one.

A *question* is a generator that runs where the log is changed: it picks segments and positions, yields *steps* and is
sent their result. Steps are generators too: they only read what they were given, and open one batch piece by piece, so
they may run in a thread and be abandoned at any yield. ``answered`` runs all of it at once.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import NamedTuple, TypeAlias

from tierlog.log.files.filesystem import Descriptor
from tierlog.log.scan import FoundBatch, walk_headers
from tierlog.log.segment import Segment
from tierlog.log.segments import Segments
from tierlog.records.steps import finished
from tierlog.records.times import TimestampedRecord, find_max_timestamp, find_timestamp
from tierlog.types import NO_TIMESTAMP

HEADERS_PER_STEP = 256


class TimestampedOffset(NamedTuple):
    timestamp: int
    offset: int
    leader_epoch: int


Steps: TypeAlias = Generator[None, None, TimestampedOffset | None]
Question: TypeAlias = Generator[Steps, TimestampedOffset | None, TimestampedOffset | None]


def answered(question: Question) -> TimestampedOffset | None:
    """Raises InvalidBatch when the batch with the answer cannot be opened, and OSError."""
    try:
        steps = next(question)
        while True:
            steps = question.send(finished(steps))
    except StopIteration as end:
        found: TimestampedOffset | None = end.value
        return found


def first_at_or_after(segments: Segments, timestamp: int, start_offset: int) -> Question:
    """The first record by offset, not below ``start_offset``, whose timestamp is >= ``timestamp``."""
    for segment in segments.starting_at(start_offset):
        if segment.size_bytes and segment.max_timestamp >= timestamp:
            offset = max(segment.time_index.floor_offset(timestamp), start_offset)
            place = _opened(segments, segment, offset)
            if place is not None:
                found = yield _search(*place, segment.size_bytes, timestamp, start_offset)
                if found is not None:
                    return found
    return None


def largest(segments: Segments, start_offset: int) -> Question:
    """The first record that has the largest timestamp at or above ``start_offset``; None without any timestamp."""
    cut: Segment | None = None
    best: Segment | None = None
    for segment in segments.starting_at(start_offset):
        if segment.size_bytes and segment.base_offset < start_offset:
            cut = segment
        elif segment.size_bytes and segment.max_timestamp > (best.max_timestamp if best else NO_TIMESTAMP):
            best = segment
    if cut is not None and (best is None or cut.max_timestamp >= best.max_timestamp):
        place = _opened(segments, cut, start_offset)
        if place is not None:
            found = yield _largest_from(*place, cut.size_bytes, start_offset)
            if found is not None and (best is None or found.timestamp >= best.max_timestamp):
                return found
    place = None if best is None else _opened(segments, best, best.max_timestamp_offset)
    if best is None or place is None:
        return None
    return (yield _largest_of(*place, best.size_bytes, best.max_timestamp))


def _opened(segments: Segments, segment: Segment, offset: int) -> tuple[Descriptor, int] | None:
    """Where to start walking to ``offset``; None when the segment was deleted since the question was asked."""
    try:
        descriptor = segment.descriptor
        position = segment.offset_index.floor_position(offset)
    except FileNotFoundError:
        return None
    segments.note_read(segment)
    return descriptor, position


def _walk(descriptor: Descriptor, position: int, end: int) -> Generator[FoundBatch | None]:
    """Yields batches, and None now and then as a point to pause at."""
    for number, batch in enumerate(walk_headers(descriptor.fd, position, end), 1):
        yield batch
        if number % HEADERS_PER_STEP == 0:
            yield None


def _search(descriptor: Descriptor, position: int, end: int, timestamp: int, start_offset: int) -> Steps:
    for batch in _walk(descriptor, position, end):
        if batch is None:
            yield
        elif batch.header.max_timestamp >= timestamp and batch.header.last_offset >= start_offset:
            data = os.pread(descriptor.fd, batch.header.size_bytes, batch.position)
            record = yield from find_timestamp(data, 0, batch.header, timestamp, start_offset)
            if record is not None:
                return _placed(record, batch)
    return None


def _largest_of(descriptor: Descriptor, position: int, end: int, max_timestamp: int) -> Steps:
    for batch in _walk(descriptor, position, end):
        if batch is None:
            yield
        elif batch.header.max_timestamp == max_timestamp:
            return (yield from _largest_in(descriptor, batch, 0))
    return None


def _largest_from(descriptor: Descriptor, position: int, end: int, start_offset: int) -> Steps:
    """The largest timestamp of a segment that the log start offset cuts; opens only the cut batch and the answer's."""
    found: TimestampedOffset | None = None
    largest_batch: FoundBatch | None = None
    largest_timestamp = NO_TIMESTAMP
    for batch in _walk(descriptor, position, end):
        if batch is None:
            yield
            continue
        header = batch.header
        if header.last_offset < start_offset or header.max_timestamp <= largest_timestamp:
            continue
        if header.base_offset < start_offset:
            found = yield from _largest_in(descriptor, batch, start_offset)
            largest_timestamp = found.timestamp if found else NO_TIMESTAMP
        else:
            largest_batch, largest_timestamp = batch, header.max_timestamp
    return found if largest_batch is None else (yield from _largest_in(descriptor, largest_batch, 0))


def _largest_in(descriptor: Descriptor, batch: FoundBatch, start_offset: int) -> Steps:
    """The largest timestamp of one batch, at or above ``start_offset``."""
    data = os.pread(descriptor.fd, batch.header.size_bytes, batch.position)
    record = yield from find_max_timestamp(data, 0, batch.header, start_offset)
    return None if record is None else _placed(record, batch)


def _placed(record: TimestampedRecord, batch: FoundBatch) -> TimestampedOffset:
    return TimestampedOffset(record.timestamp, record.offset, batch.header.partition_leader_epoch)
