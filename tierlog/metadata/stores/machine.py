"""The SQLite store's access to the machine: file locks, boot id, a clock shared by all processes, the file
system.

``flock`` belongs to the open file, so the lock ends at once when its process dies, however it dies. Programs that
this process starts do not inherit the descriptors; a bare ``fork`` would inherit them and keep the locks alive, so
use spawn.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tierlog.errors import UserError

# File systems whose locks or whose shared memory cannot be trusted between machines.
REMOTE_FILE_SYSTEMS = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "gpfs",
        "beegfs", "ocfs2", "gfs2", "davfs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.ceph",
        "fuse.rclone", "fuse.davfs2",
    }
)  # fmt: skip


def boot_time_ms() -> int:
    """Milliseconds since boot, suspended time included: the same for every process until the next boot."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


def boot_id() -> str:
    """New at every boot; "" where the machine has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def refuse_remote_file_system(path: Path) -> None:
    """Raises ``UserError`` when ``path`` (an existing directory) lies on a network file system."""
    kind = file_system_of(path.resolve())
    if kind in REMOTE_FILE_SYSTEMS:
        raise UserError(
            f"metadata store: {path} is on a network file system ({kind}), where locks do not hold; "
            "put it on a local disk, or use an etcd store"
        )


def file_system_of(path: Path, mounts: str | None = None) -> str:
    """The type of the mount that holds ``path``; "" when unknown. ``mounts``: text of /proc/self/mounts."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text()
        except OSError:
            return ""
    kind, longest = "", -1
    for line in mounts.splitlines():
        _, mount_point, mount_kind, *_ = line.split(" ")
        mount_point = mount_point.replace("\\040", " ")
        if path.is_relative_to(mount_point) and len(mount_point) >= longest:
            kind, longest = mount_kind, len(mount_point)
    return kind


class LockFile:
    """An ``flock`` on a file of its own."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Waits for the lock; released at the end and at the death of the process."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def take_if_free(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._fd)


class Presence:
    """Which processes that use the store are alive: each holds the lock of its own file in
    ``directory``.

    Use it under the store's own lock, so that nobody sees a file between its creation and its locking.
    """

    def __init__(self, directory: Path, token: str) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._token = token
        self._own = LockFile(directory / token)
        taken = self._own.take_if_free()
        assert taken, "the token is new"

    def is_alive(self, token: str) -> bool:
        """False once the process of ``token`` has ended. Leaves the file for ``forget``."""
        if token == self._token:
            return True
        try:
            fd = os.open(self._directory / token, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def sweep(self) -> None:
        """Removes the files of processes that have ended."""
        for path in self._directory.iterdir():
            if not self.is_alive(path.name):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        (self._directory / self._token).unlink(missing_ok=True)
        self._own.close()
