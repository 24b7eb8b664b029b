"""``python -m tiering.copying.worker``: the process. Standard input is its end of the socket; it ends with the other end.

First it steps back behind its broker, before it has imported anything large. A program that has the scan of a segment in
one call (``scan.WalkSegment``) calls ``main`` with it, and is what the broker starts then.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiering.copying.scan import WalkSegment

NICENESS = 10
_PR_SET_PDEATHSIG = 1
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IOPRIO_WHO_PROCESS = 1
_LEAST_BEST_EFFORT = 2 << 13 | 7
"""Class best-effort, the last of its eight levels: idle could be starved for ever on a busy disk."""


def step_back() -> None:
    """Dies with the broker, even one that was killed; runs and reads after it. What the system does not allow is left
    out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the broker, which ends this.
    with suppress(OSError):
        os.nice(NICENESS)
        # One core at most: while it has one, all others stay free for the broker and its clients.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        number = _IOPRIO_SET.get(os.uname().machine)
        if number is not None:
            libc.syscall(number, _IOPRIO_WHO_PROCESS, 0, _LEAST_BEST_EFFORT)


def main(walk_at_once: WalkSegment | None = None) -> None:
    step_back()
    from tiering.copying.worker.serving import serve

    serve(sys.stdin.fileno(), walk_at_once)


if __name__ == "__main__":
    main()
