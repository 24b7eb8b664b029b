"""The producer state after a truncation ("cut"): from memory where possible, else read from the log, in a thread.

A cut takes batches off the end. Mostly no producer wrote them, or memory still holds an earlier batch of each producer; then
memory gives the state at the new end. Otherwise all batches behind the newest snapshot are read, which takes seconds for a
segment of many small batches. So the caller asks ``replay_for_cut`` first, runs the returned Replay in a thread, and cuts
when it is done. A cut without a Replay reads on the spot.

The state at an offset depends only on the bytes below it: appends meanwhile change nothing; another cut drops the Replay.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from tierlog.log.files.filesystem import Filesystem, storage_error
from tierlog.log.files.names import LOG, SNAPSHOT, segment_file
from tierlog.log.producers.snapshots import (
    load_newest_snapshot,
    replay_batch,
    restore_producers,
    snapshot_offsets,
)
from tierlog.log.producers.state import ProducerState
from tierlog.log.reading import find_batch
from tierlog.log.scan import walk_headers
from tierlog.log.segments import Segments

INLINE_BYTES = 256 * 1024


class Piece(NamedTuple):
    """Bytes ``[0, size_bytes)`` of one segment file."""

    path: Path
    size_bytes: int


class Replay:
    """``run`` it once, in a thread; then ``producers`` is the state at ``end_offset`` (exclusive). It only reads."""

    def __init__(
        self, filesystem: Filesystem, directory: Path, pieces: Sequence[Piece], end_offset: int, now_ms: int
    ) -> None:
        self.end_offset = end_offset
        self.producers: ProducerState | None = None
        self._filesystem = filesystem
        self._directory = directory
        self._pieces = pieces
        self._now_ms = now_ms

    def run(self) -> None:
        """Raises StorageError."""
        try:
            state = ProducerState()
            load_newest_snapshot(self._filesystem, self._directory, self.end_offset, self._now_ms, state)
            start = state.map_end_offset
            for piece in self._pieces:
                fd = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    for found in walk_headers(fd, 0, piece.size_bytes):
                        if start <= found.header.base_offset < self.end_offset:
                            replay_batch(fd, found, self._now_ms, state)
                finally:
                    os.close(fd)
            state.map_end_offset = self.end_offset
            self.producers = state
        except OSError as error:
            raise storage_error(error, self._directory) from error


class Cuttable(Protocol):
    """The attributes of a log that this module uses."""

    filesystem: Filesystem
    directory: Path
    segments: Segments
    producers: ProducerState
    replay: Replay | None


def replay_for_cut(log: Cuttable, offset: int, now_ms: int) -> Replay | None:
    """The Replay to run before the log is cut at ``offset``; None when the cut itself has little to read."""
    directory, segments = log.directory, log.segments
    place = find_batch(segments, offset)
    if place is None or offset <= segments.first.base_offset:
        return None
    end_offset = min(offset, place[0].batch_base_offset(place[1]))
    if log.replay is not None and log.replay.end_offset == end_offset:
        return None if log.replay.producers is not None else log.replay
    if log.producers.can_be_cut(end_offset):
        return None
    newest = max((found for found in snapshot_offsets(directory) if found <= end_offset), default=0)
    pieces = [
        Piece(segment.path(LOG), place[1] if segment is place[0] else segment.size_bytes)
        for segment in segments.starting_at(newest)
        if segment.base_offset <= end_offset and segment.base_offset <= place[0].base_offset
    ]
    if sum(piece.size_bytes for piece in pieces) <= INLINE_BYTES and _is_small(directory, newest):
        return None
    return Replay(log.filesystem, directory, pieces, end_offset, now_ms)


def _is_small(directory: Path, snapshot_offset: int) -> bool:
    try:
        return segment_file(directory, snapshot_offset, SNAPSHOT).stat().st_size <= INLINE_BYTES
    except FileNotFoundError:
        return True


def producers_after_cut(log: Cuttable, end_offset: int, now_ms: int) -> ProducerState:
    """The producer state at the new end, made in the cheapest way possible."""
    producers, replay = log.producers, log.replay
    if producers.can_be_cut(end_offset):
        producers.cut(end_offset)
        return producers
    if replay is not None and replay.end_offset == end_offset and replay.producers is not None:
        return replay.producers
    restore_producers(log.filesystem, log.directory, log.segments, end_offset, now_ms, producers)
    return producers
