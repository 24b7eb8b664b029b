"""Kills a start at each of its writes, and sees that the next, right one has everything. A program: it forks, since a start
in a process that exists costs a tenth of one from scratch."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tests.unit.broker.test_config_effects import append, create, led
from tests.unit.broker.test_identity import ACCEPT, RECORDS, filled, started

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_NAMES = (
    "meta.properties",
    "stray",
    "cleanshutdown",
    "partition.metadata",
    "/t-0",
    "checkpoint",
    ".tierlog-session",
)


def in_child(work: Coroutine[Any, Any, None], kill_at: int = 0, root: Path | None = None) -> int:
    """The exit code; minus the signal that ended it. ``kill_at``: the number of the write that does not happen any more."""
    pid = os.fork()
    if pid:
        work.close()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        if root is not None:
            die_at(kill_at, str(root))
        asyncio.run(work)
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def die_at(kill_at: int, root: str) -> None:
    count = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        is_write = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or (
            event == "open" and isinstance(args[2], int) and args[2] & _WRITES
        )
        if is_write and (path := str(args[0])).startswith(root) and any(name in path for name in _NAMES):
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


async def begin(directory: Path, *overrides: str) -> None:
    await (await started(directory, *overrides)).stop()


async def verify(directory: Path, is_new: bool) -> None:
    broker = await started(directory)
    if is_new:
        (partition,) = await create(broker)
        append(partition)
    else:
        (partition,) = await led(broker, 1)
        assert (partition.log_start_offset, partition.log.log_end_offset) == (0, RECORDS)
    await broker.stop()


def main(directory: Path, scenario: str) -> None:
    base = directory / "base"
    other = f"metadata.store=sqlite:{directory}/work/other.db"
    base.mkdir()
    if scenario != "first":
        assert in_child(filled(base)) == 0
    if scenario == "back":
        assert in_child(begin(base, f"metadata.store=sqlite:{base}/other.db", ACCEPT)) == 0
    overrides = (other, ACCEPT) if scenario == "aside" else ()
    for kill_at in range(1, 1000):
        work = directory / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(base, work)
        code = in_child(begin(work, *overrides), kill_at, work)
        assert code in (0, -signal.SIGKILL), f"{scenario}, write {kill_at}: {code}"
        assert in_child(verify(work, scenario == "first")) == 0, f"{scenario}, write {kill_at}"
        if code == 0:
            sys.stdout.write(f"{kill_at - 1}\n")
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
