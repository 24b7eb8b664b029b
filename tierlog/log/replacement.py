"""Swapping compacted segments in: Kafka's ``.cleaned`` -> ``.swap`` protocol, crash-safe at every step.

1. Every file of the new segments is complete and durable under ``.cleaned``.
2. They are renamed to ``.swap``, the highest base offset first. A swap interrupted before the last rename is
   undone: the ``.cleaned`` files, and every ``.swap`` file at or above the lowest ``.cleaned`` one, are deleted;
   the old segments are all still there.
3. A swap interrupted after the last rename is completed: old segments go, ``.swap`` files lose their suffix.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from tierlog.config.topic import TopicConfig
from tierlog.log.files.filesystem import Filesystem
from tierlog.log.files.names import (
    CLEANED,
    LOG,
    OFFSET_INDEX,
    SEGMENT_SUFFIXES,
    SWAP,
    TIME_INDEX,
    TXN_INDEX,
    parse_segment_file,
    segment_file,
)
from tierlog.log.indexes import OffsetIndex, TimeIndex
from tierlog.log.scan import walk_headers
from tierlog.log.segment import Segment
from tierlog.log.segments import Segments
from tierlog.log.txn_index import ENTRY as TXN_ENTRY
from tierlog.log.txn_index import VERSION as TXN_VERSION
from tierlog.types import AbortedTransaction


class CleanedSegment(Protocol):
    """Compaction's result: ``<base>.log.cleaned`` is written and durable, and replaces the contiguous segments
    ``old_base_offsets``. Index entries are (offset, position) and (timestamp, offset), offsets absolute."""

    @property
    def old_base_offsets(self) -> Sequence[int]: ...
    @property
    def base_offset(self) -> int: ...
    @property
    def offset_index(self) -> Sequence[tuple[int, int]]: ...
    @property
    def time_index(self) -> Sequence[tuple[int, int]]: ...
    @property
    def aborted_transactions(self) -> Sequence[AbortedTransaction]: ...


def write_cleaned_indexes(filesystem: Filesystem, directory: Path, cleaned: CleanedSegment) -> None:
    base = cleaned.base_offset
    files = {
        OFFSET_INDEX: b"".join(
            OffsetIndex.ENTRY.pack(offset - base, at) for offset, at in cleaned.offset_index
        ),
        TIME_INDEX: b"".join(
            TimeIndex.ENTRY.pack(time, offset - base) for time, offset in cleaned.time_index
        ),
    }
    if cleaned.aborted_transactions:
        files[TXN_INDEX] = b"".join(
            TXN_ENTRY.pack(TXN_VERSION, *entry) for entry in cleaned.aborted_transactions
        )
    for suffix, data in files.items():
        filesystem.write_file(segment_file(directory, base, suffix + CLEANED), data, durable=True)


def cleaned_to_swap(filesystem: Filesystem, directory: Path, base_offsets: Iterable[int]) -> None:
    for base in sorted(base_offsets, reverse=True):
        for suffix in SEGMENT_SUFFIXES:
            filesystem.rename_if_there(
                segment_file(directory, base, suffix + CLEANED), segment_file(directory, base, suffix + SWAP)
            )
    filesystem.sync_path(directory)


def swap_to_log(filesystem: Filesystem, directory: Path, base_offsets: Iterable[int]) -> None:
    for base in base_offsets:
        for suffix in SEGMENT_SUFFIXES:
            filesystem.rename_if_there(
                segment_file(directory, base, suffix + SWAP), segment_file(directory, base, suffix)
            )
    filesystem.sync_path(directory)


def finish_swaps(filesystem: Filesystem, directory: Path) -> None:
    """At open: undo or complete an interrupted swap."""
    found = [(parsed, name) for name in os.listdir(directory) if (parsed := parse_segment_file(name))]
    cleaned = [parsed[0] for parsed, _ in found if parsed[2] == CLEANED]
    lowest_cleaned = min(cleaned, default=None)
    swaps: set[int] = set()
    indexes: set[int] = set()
    for (base, suffix, stage), name in found:
        if stage == CLEANED or (stage == SWAP and lowest_cleaned is not None and base >= lowest_cleaned):
            filesystem.unlink_if_there(directory / name)
        elif stage == SWAP:
            (swaps if suffix == LOG else indexes).add(base)
    for base in sorted(swaps):
        _complete_swap(filesystem, directory, base)
    for base in sorted(indexes - swaps):
        _make_indexes_anew(filesystem, directory, base)


def _complete_swap(filesystem: Filesystem, directory: Path, base: int) -> None:
    """Remove the old segments that the new one covers, the highest first, then rename the new one into place."""
    end_offset = _end_offset(segment_file(directory, base, LOG + SWAP), base)
    covered = sorted(
        {
            parsed[0]
            for name in os.listdir(directory)
            if (parsed := parse_segment_file(name))
            and parsed[1:] == (LOG, "")
            and base <= parsed[0] < end_offset
        }
    )
    for old in reversed(covered):
        for suffix in SEGMENT_SUFFIXES:
            filesystem.unlink_if_there(segment_file(directory, old, suffix))
    swap_to_log(filesystem, directory, [base])


def _make_indexes_anew(filesystem: Filesystem, directory: Path, base: int) -> None:
    """For a stop after the log file lost its suffix and before all of its indexes did. The index files left may belong to
    this swap or to an old one, and a missing transaction index looks like an empty one. So without an offset index all
    are rebuilt from the log."""
    filesystem.unlink_if_there(segment_file(directory, base, OFFSET_INDEX))
    for suffix in SEGMENT_SUFFIXES:
        filesystem.unlink_if_there(segment_file(directory, base, suffix + SWAP))


def _end_offset(path: Path, base: int) -> int:
    """Exclusive; at least one above the base, so that the old segment of the same base goes."""
    end_offset = base + 1
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for found in walk_headers(fd, 0, os.fstat(fd).st_size):
            end_offset = found.header.next_offset
    finally:
        os.close(fd)
    return end_offset


def swap_in(
    filesystem: Filesystem,
    directory: Path,
    segments: Segments,
    cleaned: Sequence[CleanedSegment],
    config: TopicConfig,
    now_ms: int,
) -> list[Path]:
    """Do steps 1 to 3. Returns the renamed files of the old segments, to be unlinked later."""
    present = {segment.base_offset: segment for segment in segments.sealed()}
    old = [present[base] for new in cleaned for base in new.old_base_offsets]
    ends = {new.base_offset: present[max(new.old_base_offsets)].end_offset for new in cleaned}
    for new in cleaned:
        write_cleaned_indexes(filesystem, directory, new)
    cleaned_to_swap(filesystem, directory, ends)
    deleted = []
    for segment in reversed(old):
        deleted += segment.rename_deleted(with_snapshot=segment.base_offset not in ends)
    swap_to_log(filesystem, directory, ends)
    replacements = []
    for base_offset, end_offset in ends.items():
        segment = Segment(filesystem, directory, base_offset, config, now_ms)
        segment.load()
        segment.end_offset = end_offset
        segment.is_sealed = True
        replacements.append(segment)
    segments.replace(old, replacements)
    return deleted
