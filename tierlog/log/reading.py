"""From a fetch offset to bytes: where the batches lie (``locate``), then the bytes (``read_nowait``, ``read``).

A slice is whole batches of one segment. It ends at a batch boundary that the offset index knows. That boundary is
remembered, so a sequential reader costs one look-up in a small table per fetch, and no header is read twice.
"""

from __future__ import annotations

import errno
import os
from struct import Struct
from typing import NamedTuple

from tierlog.kernel import compiled
from tierlog.log.files.filesystem import Descriptor, storage_error
from tierlog.log.positions import BatchPositions, Place
from tierlog.log.scan import walk_headers
from tierlog.log.segment import Segment
from tierlog.log.segments import Segments
from tierlog.types import AbortedTransaction

_BASE_OFFSET = Struct(">q")
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_new_tuple = tuple.__new__
_new_buffer = bytearray if compiled is None else compiled.unfilled


class Slice(NamedTuple):
    """Bytes ``[position, position + size_bytes)`` of a file that stays open while the slice lives, even when it is
    deleted. The first batch may begin below the fetch offset; the next read goes on at ``next_offset``.
    ``size_bytes`` 0: there is data, but it does not fit."""

    descriptor: Descriptor
    position: int
    size_bytes: int
    next_offset: int


def read_nowait(located: Slice) -> bytearray | None:
    """All bytes if the page cache has them, else None: call ``read`` in a thread then. Never waits for the disk.

    Raises StorageError."""
    buffer = _new_buffer(located.size_bytes)
    try:
        count = os.preadv(located.descriptor.fd, (buffer,), located.position, _NOWAIT)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise storage_error(error, "read") from error
        # A filesystem without the flag (an old tmpfs) keeps its pages in memory anyway.
        count = os.preadv(located.descriptor.fd, (buffer,), located.position)
    return buffer if count == located.size_bytes else None


def read(located: Slice) -> bytes:
    """All bytes; waits for the disk, so call it in a worker thread. Empty when the log was truncated meanwhile.

    Raises StorageError."""
    try:
        data = os.pread(located.descriptor.fd, located.size_bytes, located.position)
    except OSError as error:
        raise storage_error(error, "read") from error
    return data if len(data) == located.size_bytes else b""


def find_batch(segments: Segments, offset: int) -> Place | None:
    """The first batch that ends at or behind ``offset``; None when the log ends before it."""
    segment: Segment | None = segments.floor(offset)
    while segment is not None:
        if segment.size_bytes:
            segments.note_read(segment)
            position = segment.offset_index.floor_position(offset)
            for found in walk_headers(segment.descriptor.fd, position, segment.size_bytes):
                if found.header.last_offset >= offset:
                    return segment, found.position
        segment = segments.after(segment)
    return None


def aborted_transactions(segments: Segments, start_offset: int, end_offset: int) -> list[AbortedTransaction]:
    found = []
    for segment in segments.starting_at(start_offset):
        for aborted in segment.txn_index.entries:
            if aborted.last_offset >= start_offset and aborted.first_offset < end_offset:
                found.append(aborted)
            if aborted.last_stable_offset >= end_offset:
                return found
    return found


def locate(
    segments: Segments,
    positions: BatchPositions,
    fetch_offset: int,
    max_bytes: int,
    end_offset: int,
    min_one_batch: bool,
) -> Slice | None:
    """Batches from the one that holds ``fetch_offset`` on, at most ``max_bytes``, all below ``end_offset``."""
    place = positions.get(fetch_offset)
    if place is None:
        place = find_batch(segments, fetch_offset)
        if place is None:
            return None
    segment, position = place
    while position >= segment.size_bytes:
        following = segments.after(segment)
        if following is None or following.base_offset >= end_offset:
            return None
        segment, position = following, 0
    next_offset = segment.end_offset
    limit = segment.size_bytes
    if end_offset < next_offset:
        next_offset = end_offset
        limit = _position_of(segments, positions, segment, end_offset)
    size = limit - position
    if size <= 0:
        return None
    descriptor = segment.descriptor
    if segment.is_sealed:
        segments.note_read(segment)
    if size > max_bytes:
        size = _whole_batches(segment, position, max_bytes, min_one_batch)
        if size and position + size < limit:
            next_offset = _BASE_OFFSET.unpack(os.pread(descriptor.fd, 8, position + size))[0]
    if size:
        positions.note_read(next_offset, segment, position + size)
    else:
        next_offset = fetch_offset
    return _new_tuple(Slice, (descriptor, position, size, next_offset))


def _position_of(segments: Segments, positions: BatchPositions, segment: Segment, end_offset: int) -> int:
    """The byte position where the batches of ``segment`` below ``end_offset`` end."""
    place = positions.get(end_offset)
    if place is None:
        place = find_batch(segments, end_offset)
        if place is None:
            return segment.size_bytes
        positions.note_read(end_offset, *place)
    found, position = place
    if found is segment:
        return position
    return segment.size_bytes if found.base_offset > segment.base_offset else 0


def _whole_batches(segment: Segment, position: int, max_bytes: int, min_one_batch: bool) -> int:
    """Bytes of whole batches from ``position`` on within ``max_bytes``: up to the last indexed boundary, or batch by
    batch where the index has none (it has one in each ``index.interval.bytes`` plus a batch)."""
    boundary = segment.offset_index.boundary_at_or_below(position + max_bytes)
    if boundary > position:
        return boundary - position
    end = position
    for found in walk_headers(segment.descriptor.fd, position, segment.size_bytes):
        size = found.header.size_bytes
        if end + size - position > max_bytes:
            return size if end == position and min_one_batch else end - position
        end += size
    return end - position
