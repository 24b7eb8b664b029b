"""Kills a process at the moment when a file event shows what it is doing: ``python -m tests.chaos.trigger …``.

A process of its own that sleeps in inotify, so that the signal leaves within a tenth of a millisecond of the event and
no lock of the load's interpreter stands in between. Prints the path that set it off; exits 1 when nothing did in time.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import select
import signal
import struct
import sys
import time
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
IN_MODIFY, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x80, 0x100, 0x200
EVENTS = {
    "appears": IN_MOVED_TO | IN_CREATE,
    "created": IN_CREATE,
    "moved": IN_MOVED_TO,
    "deleted": IN_DELETE,
    "modified": IN_MODIFY,
}
_event = struct.Struct("iIII")


class Watches:
    """Inotify over directories; new directories below them are watched as they appear."""

    def __init__(self, roots: list[Path], mask: int) -> None:
        self.descriptor = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self._mask = mask
        self._paths: dict[int, Path] = {}
        for root in roots:
            self._add_tree(root)

    def _add_tree(self, root: Path) -> None:
        for directory, _, _ in os.walk(root):
            number = _libc.inotify_add_watch(
                self.descriptor, os.fsencode(directory), self._mask | IN_CREATE | IN_MOVED_TO
            )
            if number >= 0:
                self._paths[number] = Path(directory)

    def events(self, timeout_s: float) -> list[tuple[Path, int]]:
        """(path, event bits) of what happened, waiting at most so long for the first."""
        if not select.select([self.descriptor], [], [], timeout_s)[0]:
            return []
        data = os.read(self.descriptor, 65_536)
        found: list[tuple[Path, int]] = []
        at = 0
        while at < len(data):
            number, mask, _, length = _event.unpack_from(data, at)
            name = os.fsdecode(data[at + _event.size : at + _event.size + length].rstrip(b"\0"))
            at += _event.size + length
            directory = self._paths.get(number)
            if directory is None:
                continue
            path = directory / name
            if mask & IN_CREATE and path.is_dir():
                self._add_tree(path)
            found.append((path, mask))
        return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--event", choices=EVENTS, required=True)
    parser.add_argument("--match", required=True, help="regular expression on the path")
    parser.add_argument("--count", type=int, default=1, help="kill at the n-th such event")
    parser.add_argument("--delay-us", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=20)
    parser.add_argument("roots", nargs="+", type=Path)
    arguments = parser.parse_args()
    wanted = re.compile(arguments.match)
    bits = EVENTS[arguments.event]
    watches = Watches(arguments.roots, bits)
    left = arguments.count
    deadline_s = time.monotonic() + arguments.timeout
    while time.monotonic() < deadline_s:
        for path, mask in watches.events(deadline_s - time.monotonic()):
            if not mask & bits or not wanted.search(str(path)):
                continue
            left -= 1
            if left <= 0:
                time.sleep(arguments.delay_us / 1e6)
                os.kill(arguments.pid, signal.SIGKILL)
                sys.stdout.write(f"{path}\n")
                return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
