"""The log directories of one broker: their lock, identity, checkpoints, room, and what lies in them.

A directory that is used by another process is refused with one line. ``meta.properties`` keeps the cluster id, the node
id and the directory's own uuid, as Kafka does; a directory of another cluster or node is refused.

Disk reserve: below ``tierlog.disk.reserve.bytes`` of free space produce is refused, while metadata commits, uploads and
local deletes go on and make room. A file of that size is preallocated beside the logs and given up while the reserve
is reached, so that those have something to write with.
"""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import uuid
from pathlib import Path
from typing import NamedTuple

from tierlog.broker import session_marker
from tierlog.broker.flusher import sync_file_system
from tierlog.errors import StorageError, UserError
from tierlog.log import checkpoints
from tierlog.log.compaction_plan import CLEANER_OFFSETS
from tierlog.types import TopicPartition

LOCK_NAME = ".lock"
RESERVE_NAME = ".tierlog-reserve"


class Space(NamedTuple):
    total_bytes: int
    usable_bytes: int


class LogDir:
    """One directory of ``log.dirs``."""

    def __init__(self, path: Path, reserve_bytes: int) -> None:
        self.path = path
        self.is_online = True
        self.reserve_reached = False
        # As of the last stop; ``load_checkpoints`` fills them.
        self.was_clean = False
        self.recovery_points: dict[TopicPartition, int] = {}
        self.log_starts: dict[TopicPartition, int] = {}
        self.high_watermarks: dict[TopicPartition, int] = {}
        # First dirty offset of each compacted log.
        self.cleaner_offsets: dict[TopicPartition, int] = {}
        self._reserve_bytes = reserve_bytes
        self._own_id = ""
        self._lock = self._take_lock()
        self._keep_reserve()

    def _take_lock(self) -> int:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UserError(f"log.dirs: cannot use {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise UserError(
                f"log.dirs: {self.path} is in use by another broker; stop it, or name another directory"
            ) from error
        return descriptor

    def space(self) -> Space:
        try:
            found = os.statvfs(self.path)
        except OSError:
            return Space(-1, -1)
        return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def fail(self) -> None:
        """Nothing here is served any more; what was written may not have reached the disk."""
        self.is_online = False
        session_marker.cast_doubt(self.path)

    # -- identity and checkpoints

    @property
    def cluster_id(self) -> str | None:
        """The cluster that this directory belongs to; None for a new one."""
        return self._properties().get("cluster.id")

    @property
    def is_new(self) -> bool:
        """No broker has claimed it yet, or all that it held was removed."""
        return "directory.id" not in self._properties()

    @property
    def directory_id(self) -> str:
        """The directory's own uuid: chosen now where it is new, kept by ``identify``."""
        if not self._own_id:
            found = self._properties().get("directory.id")
            self._own_id = found or base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()
        return self._own_id

    def _properties(self) -> dict[str, str]:
        return checkpoints.read_properties(self.path / checkpoints.META_PROPERTIES)

    def identify(self, cluster_id: str, node_id: int) -> str:
        """Claims the directory for this node of this cluster; returns its own uuid. Raises UserError."""
        path = self.path / checkpoints.META_PROPERTIES
        found = checkpoints.read_properties(path)
        for key, wanted in (("cluster.id", cluster_id), ("node.id", str(node_id))):
            if found.get(key, wanted) != wanted:
                raise UserError(
                    f"log.dirs: {self.path} belongs to {key} {found[key]}, this is {wanted}; "
                    "name another directory, or the cluster that it belongs to"
                )
        if "directory.id" not in found:
            found = {
                "version": "1",
                "cluster.id": cluster_id,
                "node.id": str(node_id),
                "directory.id": self.directory_id,
            }
            checkpoints.write_properties(path, found)
        return found["directory.id"]

    def load_checkpoints(self) -> None:
        """Reads what the last run left, and takes the mark of its clean stop away."""
        self.recovery_points = checkpoints.read_offsets(self.path / checkpoints.RECOVERY_POINTS)
        self.log_starts = checkpoints.read_offsets(self.path / checkpoints.LOG_START_OFFSETS)
        self.high_watermarks = checkpoints.read_offsets(self.path / checkpoints.HIGH_WATERMARKS)
        self.cleaner_offsets = checkpoints.read_offsets(self.path / CLEANER_OFFSETS)
        self.was_clean = checkpoints.take_clean_shutdown(self.path)

    def write_checkpoints(self) -> None:
        checkpoints.write_offsets(self.path / checkpoints.RECOVERY_POINTS, self.recovery_points)
        checkpoints.write_offsets(self.path / checkpoints.LOG_START_OFFSETS, self.log_starts)
        checkpoints.write_offsets(self.path / checkpoints.HIGH_WATERMARKS, self.high_watermarks)

    def write_cleaner_offsets(self) -> None:
        checkpoints.write_offsets(self.path / CLEANER_OFFSETS, dict(self.cleaner_offsets))

    def sync(self) -> None:
        """Everything on this directory's file system reaches the disk. Blocks. Raises StorageError."""
        sync_file_system(self._lock)

    def mark_clean(self, broker_epoch: int) -> None:
        checkpoints.write_clean_shutdown(self.path, broker_epoch)

    # -- disk reserve

    def _keep_reserve(self) -> None:
        """Preallocates the reserve where there is room for it; a file system without fallocate does without."""
        if self._reserve_bytes <= 0:
            return
        try:
            descriptor = os.open(self.path / RESERVE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            return
        try:
            os.posix_fallocate(descriptor, 0, self._reserve_bytes)
        except OSError:
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def watch_reserve(self) -> bool:
        """Looks at the free space; True where ``reserve_reached`` changed. Cheap: one statvfs."""
        if self._reserve_bytes <= 0:
            return False
        usable = self.space().usable_bytes
        if not self.reserve_reached and usable < self._reserve_bytes // 2:
            self.reserve_reached = True
            (self.path / RESERVE_NAME).unlink(missing_ok=True)
            return True
        if self.reserve_reached and usable > 2 * self._reserve_bytes:
            self.reserve_reached = False
            self._keep_reserve()
            return True
        return False

    def on_disk_full(self) -> None:
        """A write found no space before the watch did."""
        if not self.reserve_reached and self._reserve_bytes > 0:
            self.reserve_reached = True
            (self.path / RESERVE_NAME).unlink(missing_ok=True)

    # -- content

    def partition_directories(self) -> list[Path]:
        """``<topic>-<partition>`` directories, sorted; those being deleted or set aside are not among them."""
        found = []
        for entry in sorted(self.path.iterdir()):
            topic, _, index = entry.name.rpartition("-")
            if topic and index.isdigit() and entry.is_dir():
                found.append(entry)
        return found

    def remove_leftovers(self) -> None:
        """Directories of deleted partitions whose removal a stop interrupted."""
        for entry in self.path.iterdir():
            if entry.name.endswith("-delete") and entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)

    def set_aside(self, directory: Path) -> Path:
        """A partition directory that the cluster does not know (any more): kept under another name."""
        aside = directory.with_name(f"{directory.name}-stray")
        try:
            directory.rename(aside)
        except OSError as error:
            raise StorageError(f"cannot rename {directory}: {error.strerror}") from error
        return aside

    def close(self) -> None:
        os.close(self._lock)
