"""Rebuilds a sealed segment with bad bytes: from another replica's batches, or from its own sound batches.

The new segment replaces the old one as a compacted one does (``replacement``), so that a crash leaves one of them whole.
Where only the segment's own sound batches are left, its original bytes are kept beside the log in a ``.corrupt`` file, which
only the deletion of the topic removes, and the lost offsets are a hole from then on.

Blocks: call it in a worker thread. Raises OSError.
"""

from __future__ import annotations

import os
from pathlib import Path

from tierlog.log.compaction.output import CleanedSegment
from tierlog.log.files.names import LOG
from tierlog.log.leader_epochs import EpochLineage
from tierlog.log.log import Log
from tierlog.log.opening.recovery import unused_corrupt_path
from tierlog.log.scan import next_valid_batch, walk_verified
from tierlog.log.segment import Segment


def begin(log: Log, segment: Segment) -> CleanedSegment:
    """An empty segment to replace ``segment``; ``finish`` or ``discard`` it."""
    made = CleanedSegment(log.filesystem, log.directory, segment.base_offset, log.config.index_interval_bytes)
    made.old_base_offsets.append(segment.base_offset)
    made.aborted_transactions += segment.txn_index.entries
    return made


def salvage(
    made: CleanedSegment, segment_path: Path, offsets: range, size_bytes: int, lineage: EpochLineage
) -> int:
    """Copy the sound batches of the old file. Returns how many of its bytes are bad. No checksum covers offset and leader
    epoch, so ``offsets`` and ``lineage`` bound them."""
    fd = os.open(segment_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = min(size_bytes, os.fstat(fd).st_size)
        position, next_offset = 0, offsets.start
        while position >= 0:
            for found in walk_verified(fd, position, end):
                header = found.header
                epoch = lineage.epoch_for_offset(header.base_offset)
                if epoch is not None and epoch != header.partition_leader_epoch:
                    break
                if header.base_offset < next_offset or header.next_offset > offsets.stop:
                    break
                made.append(memoryview(found.buffer)[found.at : found.at + header.size_bytes])
                next_offset = header.next_offset
                position = found.position + header.size_bytes
            position = next_valid_batch(fd, position + 1, end, next_offset)
        return size_bytes - made.size_bytes
    finally:
        os.close(fd)


def keep_as_found(log: Log, segment: Segment) -> Path:
    """Keep the old bytes under a second name, durably."""
    kept = unused_corrupt_path(segment.directory, segment.base_offset)
    os.link(segment.path(LOG), kept)
    log.filesystem.sync_path(segment.directory)
    return kept
