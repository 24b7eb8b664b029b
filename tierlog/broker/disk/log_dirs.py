"""The log directories of one broker: their lock, identity, checkpoints, room, and what lies in them.

A directory that is used by another process is refused with one line. ``meta.properties`` keeps the cluster id, the node
id and the directory's own uuid, as in Kafka. Until ``begin`` nothing but the lock is written: see ``identity``.

A directory that cannot be used (it cannot be made, locked, or read) is offline from the start, like one that fails later:
its replicas are offline, and the broker goes on with the other directories. Without a usable one the broker does not start.

Disk reserve: produce is refused when ``tierlog.disk.reserve.bytes`` are about to be all that is left, while metadata
commits, uploads and local deletes go on and make room. A file of that size is preallocated beside the logs and deleted
while the reserve is reached, so that these have room to write, however fast the disk was filled. The reserve is at most an
eighth of its file system, so that it can be regained on a small one too.
"""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from tierlog.broker.disk import session_file
from tierlog.broker.disk.flusher import sync_file_system
from tierlog.broker.disk.stray_notes import STRAY_NOTE, StrayNote, read_stray_note, write_stray_note
from tierlog.errors import DiskFull, StorageError, UserError
from tierlog.log.compaction.plan import CLEANER_OFFSETS
from tierlog.log.files import checkpoints
from tierlog.log.files.filesystem import translated
from tierlog.log.files.names import (
    PARTITION_METADATA,
    is_deleted_directory,
    parse_partition_directory,
    stray_directory,
)
from tierlog.types import TopicPartition

LOCK_NAME = ".lock"
RESERVE_NAME = ".tierlog-reserve"
# In meta.properties, until the first session with the directory.
IS_NEW = "tierlog.is.new"
RESERVE_SHARE = 8
SOME_ROOM_BYTES = 1024 * 1024

logger = structlog.get_logger()


class Space(NamedTuple):
    total_bytes: int
    usable_bytes: int


class LogDir:
    """One directory of ``log.dirs``. ``why_offline``: "" while it is online."""

    def __init__(self, path: Path, reserve_bytes: int) -> None:
        self.path = path
        self.is_online = True
        self.why_offline = ""
        self.reserve_reached = False
        # As of the last stop; ``load_checkpoints`` fills them. Offsets: the exclusive end of what is synced, the first
        # offset, and the exclusive end of what is committed.
        self.was_clean = False
        self.recovery_points: dict[TopicPartition, int] = {}
        self.log_starts: dict[TopicPartition, int] = {}
        self.high_watermarks: dict[TopicPartition, int] = {}
        # Of logs that were set aside and taken back: those whose last stop was unclean, and the paths of all their notes,
        # which are removed once the checkpoints include these logs again.
        self.unclean: set[TopicPartition] = set()
        self._notes: list[Path] = []
        # First dirty offset of each compacted log.
        self.cleaner_offsets: dict[TopicPartition, int] = {}
        self._own_id = ""
        self._kept: dict[str, str] = {}
        self._lock = -1
        self._made: list[Path] = []
        self._wanted_reserve_bytes = reserve_bytes
        self._reserve_bytes = 0
        self._was_reached = False  # at the last ``watch_reserve``
        try:
            self._lock = self._take_lock()
            self._kept = self._properties()
            self._require_owner()
            session_file.check_readable(self.path)
        except StorageError as error:
            self._refuse(error)

    def begin(self) -> None:
        """The directory is ours: from here on the broker writes to it."""
        if self.is_online:
            self._made.clear()
            share_bytes = max(self.space().total_bytes // RESERVE_SHARE, 0)
            self._reserve_bytes = min(self._wanted_reserve_bytes, share_bytes)
            self._keep_reserve()
            self._look()

    def _take_lock(self) -> int:
        """Raises StorageError, and UserError for a directory that another process uses."""
        try:
            self._make()
            descriptor = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(error.strerror) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise UserError(
                f"log.dirs: {self.path} is in use by another broker; stop it, or name another directory"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise StorageError(error.strerror) from error
        return descriptor

    def _make(self) -> None:
        missing = []
        for path in (self.path, *self.path.parents):
            if path.exists():
                break
            missing.append(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._made = missing

    def _require_owner(self) -> None:
        """Raises StorageError where ``meta.properties`` is incomplete, or is missing beside logs."""
        lacking = [key for key in ("cluster.id", "node.id") if key not in self._kept]
        path = self.path / checkpoints.META_PROPERTIES
        if lacking and (self._kept or path.exists()):
            raise StorageError(
                f"{path} lacks {' and '.join(lacking)}: put it back as it was, or write the lines anew"
            )
        if lacking and self._has_logs():
            raise StorageError(
                f"{self.path} holds logs and no {checkpoints.META_PROPERTIES} that says whose they are: put it back, or "
                "write one with version=1, cluster.id and node.id"
            )

    @translated
    def _has_logs(self) -> bool:
        return any((path / PARTITION_METADATA).exists() for path in self.path.iterdir())

    def _refuse(self, error: StorageError) -> None:
        """Takes the directory offline at the start; its uuid is kept where it can still be read."""
        self.is_online = False
        self.why_offline = str(error)
        with suppress(StorageError):
            self._kept = self._properties()

    def space(self) -> Space:
        try:
            found = os.statvfs(self.path)
        except OSError:
            return Space(-1, -1)
        return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def fail(self, error: StorageError) -> None:
        """Takes the directory offline: nothing here is served any more, and some writes may not have reached the disk."""
        self.is_online = False
        self.why_offline = str(error)
        logger.error("log directory failed", log_dir=str(self.path), why=str(error))
        session_file.cast_doubt(self.path)

    # -- identity and checkpoints

    @property
    def cluster_id(self) -> str | None:
        """The cluster that this directory belongs to; None for a new one."""
        return self._kept.get("cluster.id")

    @property
    def node_id(self) -> str | None:
        """The broker that this directory belongs to, as text; None for a new one."""
        return self._kept.get("node.id")

    @property
    def is_new(self) -> bool:
        """Whether no broker session has used the directory yet, or its whole content was removed."""
        return self.is_online and ("directory.id" not in self._kept or IS_NEW in self._kept)

    @property
    def directory_id(self) -> str:
        """The directory's own uuid: chosen now where it is new, kept by ``identify``; "" where it cannot be read."""
        if not self._own_id:
            self._own_id = self._kept.get("directory.id", "")
        if not self._own_id and self.is_online:
            self._own_id = base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()
        return self._own_id

    def _properties(self) -> dict[str, str]:
        return checkpoints.read_properties(self.path / checkpoints.META_PROPERTIES)

    def identify(self, cluster_id: str, node_id: int) -> str:
        """Claims the directory for this node of this cluster; returns its own uuid. Raises UserError and StorageError."""
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
                IS_NEW: "true",
            }
            checkpoints.write_properties(path, found)
        return found["directory.id"]

    def had_session(self) -> None:
        """Notes that a broker session has begun with the directory: the next start does not take it for new. Raises
        StorageError."""
        path = self.path / checkpoints.META_PROPERTIES
        found = checkpoints.read_properties(path)
        if found.pop(IS_NEW, None) is not None:
            checkpoints.write_properties(path, found)

    def load_checkpoints(self) -> None:
        """Reads the checkpoints of the last run, and removes its clean-shutdown file."""
        self.recovery_points = checkpoints.read_offsets(self.path / checkpoints.RECOVERY_POINTS)
        self.log_starts = checkpoints.read_offsets(self.path / checkpoints.LOG_START_OFFSETS)
        self.high_watermarks = checkpoints.read_offsets(self.path / checkpoints.HIGH_WATERMARKS)
        self.cleaner_offsets = checkpoints.read_offsets(self.path / CLEANER_OFFSETS)
        self.was_clean = checkpoints.take_clean_shutdown(self.path)

    def heed_note(self, directory: Path, *, was_aside: bool = False) -> None:
        """Completes the checkpoints from the note of a log that was set aside once. Raises StorageError."""
        note, name = read_stray_note(directory), parse_partition_directory(directory.name)
        if was_aside and note is None:
            note = StrayNote()  # set aside by an older release
            write_stray_note(directory, note)
        if note is None or name is None:
            return
        self._notes.append(directory / STRAY_NOTE)
        if not note.was_clean:
            self.unclean.add(name)
        known = self.recovery_points.get(name, note.recovery_point)
        self.recovery_points[name] = min(known, note.recovery_point)
        self.log_starts[name] = max(self.log_starts.get(name, 0), note.log_start)
        self.high_watermarks[name] = max(self.high_watermarks.get(name, 0), note.high_watermark)

    def write_checkpoints(self) -> None:
        checkpoints.write_offsets(self.path / checkpoints.RECOVERY_POINTS, self.recovery_points)
        checkpoints.write_offsets(self.path / checkpoints.LOG_START_OFFSETS, self.log_starts)
        checkpoints.write_offsets(self.path / checkpoints.HIGH_WATERMARKS, self.high_watermarks)
        while self._notes:  # the checkpoints say it now
            self._notes.pop().unlink(missing_ok=True)

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
        """Looks at the free space; True where ``reserve_reached`` has changed since the last call. Cheap: one statvfs."""
        self._look()
        changed = self.reserve_reached != self._was_reached
        self._was_reached = self.reserve_reached
        return changed

    def _look(self) -> None:
        usable = self.space().usable_bytes
        if usable < self._reserve_bytes // 2:
            self.on_disk_full()
        elif self.reserve_reached and usable > 2 * self._reserve_bytes:
            self.reserve_reached = False
            self._keep_reserve()

    @property
    def has_some_room(self) -> bool:
        """Whether there is room for a few small files at least."""
        return self.space().usable_bytes >= SOME_ROOM_BYTES

    @property
    def wanted_bytes(self) -> int:
        """Bytes to free until there is room again, with some to spare; 0 while there is enough."""
        usable = self.space().usable_bytes
        if self.reserve_reached:
            return max(3 * self._reserve_bytes - usable, 0)
        return 2 * self._reserve_bytes - usable if usable < self._reserve_bytes else 0

    def on_disk_full(self) -> bool:
        """Gives up the reserve, since the disk is full. Returns whether that has made room just now."""
        if self._reserve_bytes <= 0:
            return False
        self.reserve_reached = True
        path = self.path / RESERVE_NAME
        try:
            had_room = path.stat().st_size > 0
            path.unlink()
        except OSError:
            return False
        return had_room

    def with_room(self, write: Callable[[], None]) -> None:
        """Calls ``write``; where the disk is full, gives up the reserve and calls it again. Raises StorageError."""
        try:
            write()
        except DiskFull:
            if not self.on_disk_full():
                raise
            write()

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
        """Removes directories of deleted partitions whose removal was interrupted by a stop."""
        for entry in self.path.iterdir():
            if is_deleted_directory(entry.name) and entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)

    def set_aside(self, directory: Path) -> Path:
        """Renames a partition directory that the cluster does not know (any more), and keeps a note in it of what the
        checkpoints said of it. Raises StorageError."""
        name = parse_partition_directory(directory.name)
        assert name is not None, directory
        note = StrayNote(
            self.was_clean and name not in self.unclean,
            self.recovery_points.get(name, 0),
            self.log_starts.get(name, 0),
            self.high_watermarks.get(name, 0),
        )
        self.with_room(lambda: write_stray_note(directory, note))
        aside = directory.with_name(stray_directory(name, uuid.uuid4().hex))
        rename(directory, aside)
        return aside

    def discard(self, directory: Path) -> None:
        """Removes a partition directory; renames it first, so that a crash leaves no part of a log. Raises StorageError."""
        gone = directory.with_name(f"{directory.name}.{uuid.uuid4().hex}-delete")
        rename(directory, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def close(self) -> None:
        """Releases the lock, and removes directories that were made for it alone."""
        if self._made:
            with suppress(OSError):
                (self.path / LOCK_NAME).unlink()
                for path in self._made:
                    path.rmdir()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def rename(directory: Path, to: Path) -> None:
    """Raises StorageError."""
    try:
        directory.rename(to)
    except OSError as error:
        raise StorageError(f"cannot rename {directory}: {error.strerror}") from error


def open_log_dirs(paths: Sequence[str], reserve_bytes: int) -> list[LogDir]:
    """``log.dirs`` in order; unusable ones are among them, offline. Raises UserError for what the user must fix."""
    opened: list[LogDir] = []
    try:
        for path in map(Path, paths):
            for other in opened:
                if other.is_online and _is_same(path, other.path):
                    raise UserError(f"log.dirs: {path} and {other.path} are one directory; name it once")
            log_dir = LogDir(path, reserve_bytes)
            opened.append(log_dir)
            if not log_dir.is_online:
                logger.error("log directory failed", log_dir=str(path), why=log_dir.why_offline)
        require_one(opened)
        _require_distinct(opened)
    except UserError:
        for log_dir in opened:
            log_dir.close()
        raise
    return opened


def require_one(log_dirs: Sequence[LogDir]) -> None:
    """Raises UserError where no directory is online."""
    if not any(log_dir.is_online for log_dir in log_dirs):
        why = ", ".join(f"{log_dir.path} ({log_dir.why_offline})" for log_dir in log_dirs)
        raise UserError(f"log.dirs: cannot use {why}; mend it, or name another directory")


def _require_distinct(log_dirs: Sequence[LogDir]) -> None:
    known: dict[str, LogDir] = {}
    for log_dir in log_dirs:
        other = known.setdefault(log_dir.directory_id or str(log_dir.path), log_dir)
        if other is not log_dir:
            raise UserError(
                f"log.dirs: {log_dir.path} is a copy of {other.path}: both have directory.id {log_dir.directory_id}; "
                "leave out the one that is older"
            )


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False
