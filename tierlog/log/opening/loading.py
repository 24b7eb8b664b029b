"""Opens a partition directory: leftovers of interrupted work first, then segments, epochs, producers, log end.

After a clean stop nothing is scanned: files are opened, indexes are checked at their ends, and the producer snapshot at the
log end is loaded. After an unclean stop every segment from the recovery point on is recovered.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from tierlog.config.topic import MAX_LONG, TopicConfig
from tierlog.log.files.filesystem import Filesystem
from tierlog.log.files.names import (
    DELETED,
    LOG,
    OFFSET_INDEX,
    TEMPORARY,
    TIME_INDEX,
    TXN_INDEX,
    parse_segment_file,
)
from tierlog.log.leader_epochs import CHECKPOINT_FILE_NAME, EpochLineage
from tierlog.log.opening.holes import LegalHoles
from tierlog.log.opening.recovery import Recovery, rebuild_indexes
from tierlog.log.producers.snapshots import remove_snapshots_above, remove_stray_snapshots, restore_producers
from tierlog.log.producers.state import ProducerState
from tierlog.log.replacement import finish_swaps
from tierlog.log.scan import walk_headers
from tierlog.log.segment import Segment
from tierlog.log.segments import Segments


class Loaded(NamedTuple):
    segments: Segments
    epochs: EpochLineage
    producers: ProducerState
    log_end_offset: int  # exclusive
    damage: str  # why the replica is lossy, or ""
    holes: LegalHoles
    epochs_text: str  # the checkpoint's content on disk, "" when it cannot be relied on


class Loader:
    """One start of one log."""

    def __init__(
        self, filesystem: Filesystem, directory: Path, config: TopicConfig, now_ms: int, log_start_offset: int
    ) -> None:
        self.filesystem = filesystem
        self.directory = directory
        self.config = config
        self.now_ms = now_ms
        self.log_start_offset = log_start_offset
        self.producers = ProducerState()
        self.holes = LegalHoles(filesystem, directory)
        self.epochs_text = ""

    def load(self, was_clean: bool, recovery_point: int) -> Loaded:
        self._remove_leftovers()
        segments = self._list_segments()
        first = None if was_clean else segments.floor(recovery_point)
        for segment in segments:
            if first is None or segment.base_offset < first.base_offset:
                self._adopt(segment, segments)
        if first is None and not segments.active.load_end():
            first = segments.active
        epochs, is_whole = self._load_epochs()
        damage = ""
        if first is not None:
            damage = self._recover(segments, first, epochs)
        if segments.active.end_offset < self.log_start_offset:
            segments = self._start_over(segments)
        end_offset = segments.active.end_offset
        if not is_whole and end_offset > segments.first.base_offset:
            epochs = _epochs_from_headers(segments)
        # A new leader's entry without records starts at the log end: it is trusted after a clean stop only.
        epochs.truncate_from_end(end_offset + 1 if first is None else end_offset)
        self.holes.cut(end_offset)
        remove_snapshots_above(self.filesystem, self.directory, end_offset)
        if first is None:
            restore_producers(
                self.filesystem, self.directory, segments, end_offset, self.now_ms, self.producers
            )
        self.producers.map_end_offset = end_offset
        remove_stray_snapshots(self.filesystem, self.directory, segments)
        for segment in segments.sealed():
            segment.release()
        segments.recount()
        segments.active.drop_maps()
        return Loaded(segments, epochs, self.producers, end_offset, damage, self.holes, self.epochs_text)

    def _remove_leftovers(self) -> None:
        finish_swaps(self.filesystem, self.directory)
        names = os.listdir(self.directory)
        logs = {found[0] for name in names if (found := parse_segment_file(name)) and found[1:] == (LOG, "")}
        for name in names:
            found = parse_segment_file(name)
            is_orphan = (
                found is not None
                and found[1] in (OFFSET_INDEX, TIME_INDEX, TXN_INDEX)
                and found[0] not in logs
            )
            if is_orphan or name.endswith((DELETED, TEMPORARY)):
                self.filesystem.unlink_if_there(self.directory / name)

    def _list_segments(self) -> Segments:
        bases = sorted(
            found[0]
            for name in os.listdir(self.directory)
            if (found := parse_segment_file(name)) and found[1:] == (LOG, "")
        )
        if not bases:
            return Segments([self._fresh(self.log_start_offset)])
        listed = [Segment(self.filesystem, self.directory, base, self.config, self.now_ms) for base in bases]
        for segment, following in zip(listed, bases[1:], strict=False):
            segment.end_offset = following
            segment.is_sealed = True
        return Segments(listed)

    def _fresh(self, base_offset: int) -> Segment:
        return Segment.create(self.filesystem, self.directory, base_offset, self.config, self.now_ms)

    def _adopt(self, segment: Segment, segments: Segments) -> None:
        end_offset = segment.end_offset
        try:
            segment.load()
        except (ValueError, FileNotFoundError):
            before = ProducerState()
            restore_producers(
                self.filesystem, self.directory, segments, segment.base_offset, self.now_ms, before
            )
            rebuild_indexes(segment, before, self.now_ms)
            if segment.is_sealed:
                segment.seal()
        if segment.is_sealed:
            segment.end_offset = end_offset

    def _recover(self, segments: Segments, first: Segment, epochs: EpochLineage) -> str:
        start = first.base_offset
        epochs.truncate_from_end(start)
        restore_producers(self.filesystem, self.directory, segments, start, self.now_ms, self.producers)
        holes_end = MAX_LONG if self.config.is_compacted else self.holes.end_offset
        recovery = Recovery(self.filesystem, self.producers, epochs, start, holes_end, self.now_ms)
        last = segments.active
        is_cut = False
        for segment in segments.starting_at(start):
            is_cut = is_cut or (segment is not first and not recovery.goes_on_at(segment.base_offset))
            if is_cut:
                recovery.drop(segment)
                segments.remove(segment)
                continue
            is_cut = not recovery.recover(segment)
            if segment is not last:
                segment.seal()
        segments.active.is_sealed = False
        segments.adjoin()
        return recovery.damage

    def _start_over(self, segments: Segments) -> Segments:
        """Everything on disk is below the log start offset: records were deleted, then a crash cut the files short."""
        for segment in list(segments):
            segment.release()
            for path in segment.files():
                self.filesystem.unlink_if_there(path)
        self.producers.clear()
        return Segments([self._fresh(self.log_start_offset)])

    def _load_epochs(self) -> tuple[EpochLineage, bool]:
        """(lineage, True), or (empty, False) when the file is missing, unreadable or cut off."""
        try:
            text = (self.directory / CHECKPOINT_FILE_NAME).read_text()
            if text.endswith("\n"):  # otherwise the last offset may have lost digits
                epochs = EpochLineage.decode(text)
                self.epochs_text = text
                return epochs, True
        except (FileNotFoundError, ValueError):
            pass
        return EpochLineage(), False


def _epochs_from_headers(segments: Segments) -> EpochLineage:
    epochs = EpochLineage()
    for segment in segments:
        for found in walk_headers(segment.descriptor.fd, 0, segment.size_bytes):
            epochs.assign(found.header.partition_leader_epoch, found.header.base_offset)
    return epochs
