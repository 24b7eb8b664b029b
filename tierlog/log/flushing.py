"""Durability in a worker thread: the loop decides what to sync, a thread waits for the disk.

A plan holds descriptors of its own, so rolls, deletions and truncations may go on while it runs. The log
moves its recovery point only when it is told that the plan has run.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tierlog.log.files.filesystem import Descriptor, Filesystem, start_writeback, storage_error
from tierlog.log.files.names import OFFSET_INDEX, TIME_INDEX, TXN_INDEX
from tierlog.log.producers.snapshots import SnapshotWrite
from tierlog.log.segment import Segment


class FlushPlan(NamedTuple):
    """After ``run`` everything below ``end_offset`` (exclusive) survives a power loss. ``generation``: number of the last
    truncation; a plan from before it proves nothing about later writes. ``last_change``: number of the last one covered."""

    filesystem: Filesystem
    end_offset: int
    generation: int
    last_change: int
    active: Descriptor
    sealed: tuple[Segment, ...]
    sealed_descriptors: tuple[Descriptor, ...]
    paths: tuple[Path, ...]
    snapshots: tuple[SnapshotWrite, ...] = ()

    def run(self) -> None:
        """Blocks: call it in a worker thread. Raises StorageError; the log dir must not be trusted afterwards."""
        try:
            for snapshot in self.snapshots:
                snapshot.run()
            for descriptor in self.sealed_descriptors:
                self.filesystem.fdatasync(descriptor.fd)
            self.filesystem.fdatasync(self.active.fd)
            for path in self.paths:
                self.filesystem.sync_path(path)
        except OSError as error:
            raise storage_error(error, self.paths[0] if self.paths else "fdatasync") from error


class Unsynced:
    """All changes not yet durable, besides those of the active segment's file."""

    __slots__ = ("_changes", "_filesystem", "_generation", "_paths", "_segments")

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._generation = 0  # number of truncations so far
        self._changes = 0
        self._paths: dict[Path, int] = {}  # path -> number of its last change
        self._segments: list[Segment] = []  # sealed ones

    @property
    def is_empty(self) -> bool:
        return not self._paths and not self._segments

    def add_paths(self, *paths: Path) -> None:
        self._changes += 1
        self._paths.update(dict.fromkeys(paths, self._changes))

    def add_segment(self, segment: Segment) -> None:
        self._segments.append(segment)

    def keep_only(self, segments: Iterable[Segment]) -> None:
        """Forget the segments that are no longer in the log."""
        present = set(segments)
        self._segments = [segment for segment in self._segments if segment in present]

    def outdate_plans(self) -> None:
        """The log was truncated: plans made before it prove nothing any more."""
        self._generation += 1

    def plan(self, end_offset: int, active: Segment, snapshots: tuple[SnapshotWrite, ...] = ()) -> FlushPlan:
        sealed = tuple(self._segments)
        indexes = [
            segment.path(suffix) for segment in sealed for suffix in (OFFSET_INDEX, TIME_INDEX, TXN_INDEX)
        ]
        return FlushPlan(
            self._filesystem,
            end_offset,
            self._generation,
            self._changes,
            active.descriptor,
            sealed,
            tuple(segment.descriptor for segment in sealed),
            (*indexes, *self._paths),
            snapshots,
        )

    def forget(self, plan: FlushPlan) -> bool:
        """``plan`` has run: all that it covered is durable. False when the plan is outdated."""
        if plan.generation != self._generation:
            return False
        self._segments = [segment for segment in self._segments if segment not in plan.sealed]
        self._paths = {path: change for path, change in self._paths.items() if change > plan.last_change}
        return True


class WritebackPlan(NamedTuple):
    """Dirty bytes of the active segment that the kernel should begin to write. Promises nothing."""

    descriptor: Descriptor
    position: int
    size_bytes: int

    def run(self) -> None:
        """May block on a full device queue: call it in a worker thread. Never raises."""
        start_writeback(self.descriptor.fd, self.position, self.size_bytes)
