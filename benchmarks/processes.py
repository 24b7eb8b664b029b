"""What a broker costs: CPU and memory of its whole process tree.

Children that have ended are counted once their parent has waited for them (the kernel adds them to its
``cutime``), so that a worker process hides nothing. All figures come from ``/proc``.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MIB = 1024.0  # /proc/*/status counts in KiB.


@dataclass(frozen=True, slots=True)
class Memory:
    """Of all live processes of the tree together, in MiB; the peak since it was last forgotten."""

    rss_mib: float
    peak_mib: float


class ProcessTree:
    """The processes ``roots`` and everything they started."""

    def __init__(self, *roots: int) -> None:
        self.roots = roots

    def pids(self) -> list[int]:
        found = list(self.roots)
        for pid in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return list(dict.fromkeys(found))

    def cpu_s(self) -> float:
        """User and system time so far, ended children included."""
        ticks = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
        return ticks / _TICKS_PER_S

    def memory(self) -> Memory:
        rows = [self._status(pid) for pid in self.pids()]
        return Memory(
            sum(row.get("VmRSS", 0) for row in rows) / _MIB, sum(row.get("VmHWM", 0) for row in rows) / _MIB
        )

    def forget_peak(self) -> None:
        """The next peak counts from now; where the kernel refuses, it stays the one since the start."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    @staticmethod
    def _status(pid: int) -> dict[str, int]:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return {}
        rows = (line.split() for line in lines)
        return {row[0].rstrip(":"): int(row[1]) for row in rows if row[0] in ("VmRSS:", "VmHWM:")}


def drop_from_page_cache(directory: Path) -> int:
    """Makes every file under ``directory`` cold; returns their bytes. Dirty pages are written first."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_symlink() or not path.is_file():
                continue
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                total += os.fstat(fd).st_size
            finally:
                os.close(fd)
    return total
