"""Where an extra is not installed: one line with the remedy, and what can be told without it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.replay_bucket import BucketMaker, Shape
from tests.unit.cost.rows import small_cluster, write_json_lines

WITHOUT = """
import sys
for name in {names!r}:
    sys.modules[name] = None
from tierlog.cli.app import run
run()
"""


def told(*arguments: str, without: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", WITHOUT.format(names=without), *arguments]
    return subprocess.run(program, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("replay t --bucket dir:///nowhere", "numpy", "replay"),
        ("sql SELECT --bucket dir:///nowhere", "duckdb", "sql"),
        ("table list --iceberg c", "numpy", "replay"),
    ],
)
def test_a_command_that_needs_one_says_so(command: str, package: str, extra: str) -> None:
    done = told(*command.split(), without=(package,))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"tierlog: this needs {package}: pip install 'tierlog[{extra}]'\n"


@pytest.mark.parametrize(
    ("command", "left_out"),
    [
        ("capacity report", "times and compression are left out"),
        ("cost replay flights --from 2025-01-01", "told from means"),
    ],
)
def test_reports_are_told_without_it(tmp_path: Path, command: str, left_out: str) -> None:
    made = BucketMaker(tmp_path / "bucket")
    made.fill("flights", 0, 1, 10, Shape())
    rows = write_json_lines(small_cluster(2), tmp_path / "rows.jsonl")
    given = ("--rows", str(rows), "--since", "2025-01-01", "--bucket", made.url, "-o", "json")
    done = told(*command.split(), *given, without=("numpy", "duckdb", "pyiceberg"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert f"{left_out}: this needs numpy: pip install 'tierlog[replay]'" in done.stderr
