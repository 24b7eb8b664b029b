"""Recovery after an unclean stop: finds where a segment's valid log ends, and tells a torn tail from damage.

A batch is valid when it is whole, has magic 2 and a good checksum (which leaves out its base offset), begins at or behind
the end of the one before, ends where its segment's indexes can name it, and does not go back to an older leader epoch.
The log ends before the first batch that is not valid, and before a segment that leaves a gap which nothing explains
(``holes``). The torn tail of a crash is cut off and thrown away. When valid batches lie behind the damage, the cut part is
kept in a ``.corrupt`` file and the replica is lossy: it has held records that it can no longer serve, so it must not be
trusted as a leader.
"""

from __future__ import annotations

import os
from pathlib import Path

from tierlog.log.files.filesystem import Filesystem
from tierlog.log.files.names import CORRUPT, LOG, segment_file
from tierlog.log.indexes import MAX_RELATIVE_OFFSET
from tierlog.log.leader_epochs import EpochLineage
from tierlog.log.noting import note_batches, with_producers
from tierlog.log.producers.snapshots import replay_batch
from tierlog.log.producers.state import ProducerState
from tierlog.log.scan import FoundBatch, Run, holds_valid_batch, runs
from tierlog.log.segment import Segment
from tierlog.records.batch import LOG_OVERHEAD_BYTES, BatchHeader

KEEP_CHUNK_BYTES = 1 << 20


class Recovery:
    """One pass over the segments from the recovery point on, in order. ``end_offset``: the log end so far
    (exclusive); ``damage``: why the replica is lossy, "" when it is not."""

    def __init__(
        self,
        filesystem: Filesystem,
        producers: ProducerState,
        epochs: EpochLineage,
        start_offset: int,
        holes_end_offset: int,
        now_ms: int,
    ) -> None:
        self.filesystem = filesystem
        self.producers = producers
        self.epochs = epochs
        self.end_offset = start_offset
        self.holes_end_offset = holes_end_offset
        self.now_ms = now_ms
        self.latest_epoch = epochs.latest_epoch
        self.damage = ""

    def recover(self, segment: Segment) -> bool:
        """Check every batch, rebuild the indexes, cut the file behind the last good batch. False when it was cut: the
        log ends here."""
        file_end = segment.path(LOG).stat().st_size
        segment.forget_contents()
        fd = segment.descriptor.fd
        position = 0
        self.end_offset = max(self.end_offset, segment.base_offset)
        for run in runs(fd, 0, file_end, verify=True):
            headers = self._continuing(in_reach(segment, run.headers))
            position = _note(segment, run, headers, self.now_ms, self.producers)
            if len(headers) < len(run.headers):
                break
        segment.size_bytes = position
        segment.end_offset = self.end_offset
        if position < file_end:
            self._cut(segment, position, file_end)
        return position == file_end

    def goes_on_at(self, offset: int) -> bool:
        """Whether a segment may begin at ``offset``: at the log end, or behind a gap that ``holes`` declares legal."""
        return offset == self.end_offset or self.end_offset < offset <= self.holes_end_offset

    def _continuing(self, headers: list[BatchHeader]) -> list[BatchHeader]:
        """The first ones, up to one that goes back in offset or epoch; the log has reached their end then."""
        end_offset, latest_epoch = self.end_offset, self.latest_epoch
        epoch = None
        for number, header in enumerate(headers):
            base_offset = header.base_offset
            if base_offset < end_offset or header.partition_leader_epoch < latest_epoch:
                headers = headers[:number]
                break
            end_offset = base_offset + header.last_offset_delta + 1
            if header.partition_leader_epoch != epoch:
                epoch = latest_epoch = header.partition_leader_epoch
                self.epochs.assign(epoch, base_offset)
        self.end_offset, self.latest_epoch = end_offset, latest_epoch
        return headers

    def _cut(self, segment: Segment, position: int, file_end: int) -> None:
        fd = segment.descriptor.fd
        if holds_valid_batch(fd, position, file_end, self.end_offset):
            kept = self._keep(fd, position, file_end, segment.directory)
            self.damage = f"{file_end - position} bytes from offset {self.end_offset} on are damaged, kept in {kept.name}"
        self.filesystem.truncate(fd, position)

    def _keep(self, fd: int, position: int, file_end: int, directory: Path) -> Path:
        path = unused_corrupt_path(directory, self.end_offset)
        target = self.filesystem.create(path)
        try:
            at = position
            while at < file_end:
                chunk = os.pread(fd, min(KEEP_CHUNK_BYTES, file_end - at), at)
                self.filesystem.write_at(target, chunk, at - position)
                at += len(chunk)
        finally:
            os.close(target)
        return path

    def drop(self, segment: Segment) -> None:
        """Set aside a segment behind the cut: no read from the log end can reach it."""
        if segment.path(LOG).stat().st_size:
            kept = unused_corrupt_path(segment.directory, segment.base_offset)
            self.filesystem.rename(segment.path(LOG), kept)
            self.damage = self.damage or f"the log ends at {self.end_offset}, before segment {kept.name}"
        for path in segment.files():
            self.filesystem.unlink_if_there(path)
        segment.release()


def unused_corrupt_path(directory: Path, offset: int) -> Path:
    path = segment_file(directory, offset, CORRUPT)
    number = 0
    while path.exists():
        number += 1
        path = segment_file(directory, offset, f".{number}{CORRUPT}")
    return path


def kept_files(directory: Path) -> list[Path]:
    """The ``.corrupt`` files in a log's directory, from recovery or from a repair."""
    return sorted(directory.glob(f"*{CORRUPT}"))


def rebuild_indexes(segment: Segment, producers: ProducerState, now_ms: int) -> None:
    """Rebuild the indexes of a sealed segment whose index files are missing or unusable; the log file is trusted.
    ``producers``: a separate producer state, as of the segment's base offset."""
    end = segment.path(LOG).stat().st_size
    segment.forget_contents()
    fd = segment.descriptor.fd
    segment.size_bytes = end
    for run in runs(fd, 0, end, verify=False):
        headers = in_reach(segment, run.headers)
        _note(segment, run, headers, now_ms, producers)
        if len(headers) < len(run.headers):
            break


def in_reach(segment: Segment, headers: list[BatchHeader]) -> list[BatchHeader]:
    """The first ones, up to one whose offsets the segment's indexes cannot hold."""
    for number, header in enumerate(headers):
        if not 0 <= header.last_offset - segment.base_offset <= MAX_RELATIVE_OFFSET:
            return headers[:number]
    return headers


def _note(
    segment: Segment, run: Run, headers: list[BatchHeader], now_ms: int, producers: ProducerState
) -> int:
    """Index the first batches of a run, and replay their producers; where they end in the file."""
    data = memoryview(run.buffer)[run.at :]
    note_batches(segment, run.position, data, headers)
    for at, header in with_producers(data, headers):
        found = FoundBatch(run.position + at, header, run.buffer, run.at + at)
        aborted = replay_batch(segment.descriptor.fd, found, now_ms, producers)
        if aborted:
            segment.txn_index.append(aborted)
    if headers:
        producers.map_end_offset = headers[-1].next_offset
    return run.position + sum([LOG_OVERHEAD_BYTES + header.batch_length for header in headers])
