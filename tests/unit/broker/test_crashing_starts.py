"""kill -9 at every write of a start: the first one, one that sets logs aside, one that takes them back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("scenario", ["first", "aside", "back"])
def test_a_start_that_is_killed_leaves_what_starts_again(tmp_path: Path, scenario: str) -> None:
    command = [sys.executable, "-m", "tests.unit.broker.crashing_starts", str(tmp_path), scenario]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert int(done.stdout.split()[-1]) > 3, "so many writes"
