"""How far a log goes, read without opening it. It decides which of two directories of one replica is newer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from tierlog.log.files.filesystem import translated
from tierlog.log.files.names import LOG, PARTITION_METADATA, parse_segment_file
from tierlog.log.scan import walk_verified


class LastRecord(NamedTuple):
    """``leader_epoch``: of the last batch, -1 without one. ``end_offset``: log end offset, exclusive. ``placed_ns``: when
    the replica was put into this directory (mtime of ``partition.metadata``); 0 unknown."""

    leader_epoch: int
    end_offset: int
    placed_ns: int

    def ends_alike(self, other: LastRecord) -> bool:
        return self[:2] == other[:2]

    def is_newer(self, other: LastRecord) -> bool:
        """Compares two logs of one replica. The newer one has every committed record of the other, since no leader's log
        lacks records committed before its epoch. A log without a record has no epoch; its end offset decides, since all
        below it was committed and has been deleted. Of two with the same end, the one placed later is the move's target."""
        if self.leader_epoch < 0 or other.leader_epoch < 0:
            return (self.end_offset, self.leader_epoch, self.placed_ns) > (
                other.end_offset,
                other.leader_epoch,
                other.placed_ns,
            )
        return self > other


@translated
def last_record(directory: Path) -> LastRecord:
    """Reads the last segment that has a whole batch. Raises StorageError."""
    segments = [
        (found[0], path)
        for path in directory.iterdir()
        if (found := parse_segment_file(path.name)) and found[1:] == (LOG, "")
    ]
    metadata = directory / PARTITION_METADATA
    placed_ns = metadata.stat().st_mtime_ns if metadata.exists() else 0
    leader_epoch, end_offset = -1, 0
    for base_offset, path in sorted(segments, reverse=True):
        end_offset = max(end_offset, base_offset)
        with path.open("rb") as file:
            fd = file.fileno()
            for batch in walk_verified(fd, 0, os.fstat(fd).st_size):
                leader_epoch = batch.header.partition_leader_epoch
                end_offset = max(end_offset, batch.header.next_offset)
        if leader_epoch >= 0:
            break
    return LastRecord(leader_epoch, end_offset, placed_ns)
