"""Runs of ``tierlog`` that start at once: forked from a process that has imported what a replay needs.

Reads one JSON list of arguments per line, writes the child's pid, and its exit code when it has ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType


class Forks:
    """A context: ``start`` begins a run and returns its pid, ``wait`` waits for it and returns its code."""

    def __enter__(self) -> Forks:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.replay_forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def start(self, arguments: Sequence[str]) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(list(arguments)) + "\n")
        self._process.stdin.flush()
        return self.wait()

    def wait(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


def serve() -> None:
    import pyarrow.parquet
    import pyiceberg.catalog.sql
    import pyiceberg.io.pyarrow
    import rich.progress
    import typer.main

    import tierlog.cli.output
    from tierlog.cli.app import app, run

    assert (
        pyarrow.parquet
        and pyiceberg.io.pyarrow
        and pyiceberg.catalog.sql
        and rich.progress
        and tierlog.cli.output
    )
    typer.main.get_command(app)  # Which warms what types are looked up in.
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            sys.argv = ["tierlog", *json.loads(line)]
            os.dup2(2, 1)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            run()
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
