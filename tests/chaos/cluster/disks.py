"""A small disk for each broker, ext4 on a file: it can be full, and it can lose its power.

Power loss is ext4's own shutdown ioctl, without a flush of its journal: what was not synced is gone after the next mount.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

from tests.chaos.cluster.network import run

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2


class Directory:
    """A plain directory: what there is where nothing can be mounted."""

    can_fail = False

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)

    def unmount(self) -> None:
        """It is no mount."""


class Disk:
    """Mounted at ``path``, in the mount namespace of the program and of all it starts."""

    can_fail = True

    def __init__(self, path: Path, size_mib: int = 512) -> None:
        self.path = path
        self._image = path.with_suffix(".ext4")
        self._filler = path / "filler"
        path.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(size_mib << 20)
        run("mkfs.ext4", "-q", "-m", "0", str(self._image))
        self.mount()

    def mount(self) -> None:
        run("mount", "-o", "loop", str(self._image), str(self.path))

    def fill(self) -> None:
        """Somebody else's file takes all there is; what is freed meanwhile is taken at the next call."""
        with self._filler.open("ab") as file:
            found = os.statvfs(self.path)
            free_bytes = found.f_bavail * found.f_frsize
            # Rounded by the file system's own bookkeeping: smaller bites until none goes down.
            while free_bytes >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free_bytes)
                except OSError:
                    free_bytes //= 2
                else:
                    found = os.statvfs(self.path)
                    free_bytes = found.f_bavail * found.f_frsize

    def clear(self) -> None:
        with suppress(FileNotFoundError):
            self._filler.unlink()

    def lose_power(self) -> None:
        """Everything that was not synced is lost; whoever has files open gets errors until ``mend``."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def mend(self) -> None:
        """Call once nobody has a file open there. The mount replays the journal."""
        run("umount", str(self.path))
        self.mount()
        self.clear()

    def unmount(self) -> None:
        with suppress(RuntimeError):
            run("umount", str(self.path))


AnyDisk = Directory | Disk
