"""A file system of a few MiB in memory, for tests that fill it up.

It is mounted in a mount namespace of its own, which a sleeping process holds open: others reach it through that process's
root in /proc, nobody else sees it, and it vanishes with the process, whatever becomes of the test.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.servers.parents import die_with_parent

MIB = 1 << 20
TRIES = 1000
# As root the first will do; the second where users may have namespaces.
UNSHARE = (("unshare", "--mount"), ("unshare", "--user", "--map-root-user", "--mount"))


class SmallDisk:
    """``path``: the root of the file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave_bytes: int = 0) -> None:
        """Somebody else's file takes all that is free but ``leave_bytes``; may be called again."""
        with self._filler.open("ab") as file:
            for _ in range(TRIES):
                missing = self.free_bytes - leave_bytes
                if missing <= 0:
                    return
                # A broker may write between the two: then there is not so much any more, and nothing was taken.
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, missing)
        raise AssertionError(f"{self.path} cannot be filled: {self.free_bytes} bytes are free")

    def clear(self) -> None:
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(directory: Path, size_mib: int) -> Iterator[SmallDisk]:
    """Mounted over the empty ``directory``. Skips, loudly, where nobody may mount anything."""
    directory.mkdir(parents=True, exist_ok=True)
    refusals = []
    mount = f'mount -t tmpfs -o size={size_mib}m tmpfs "$0" && echo mounted && exec sleep infinity'
    for unshare in UNSHARE:
        holder = subprocess.Popen(
            [*unshare, "sh", "-c", mount, str(directory)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,
        )
        assert holder.stdout is not None
        try:
            answer = holder.stdout.readline().strip()
            if answer == "mounted":
                yield SmallDisk(Path(f"/proc/{holder.pid}/root{directory}"))
                return
            refusals.append(answer)
        finally:
            holder.kill()
            holder.wait()
            holder.stdout.close()
    pytest.skip(f"no tmpfs can be mounted here: {'; '.join(refusals)}")
