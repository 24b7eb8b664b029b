"""A few deaths under load; ``make chaos`` is the long run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kill9 import run
from tests.chaos.phases import PHASES


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_doubled_or_moved(tmp_path: Path) -> None:
    phases = [
        phase for phase in PHASES if phase.name in ("upload", "commit", "local delete", "roll", "compaction")
    ]
    world, records = run(tmp_path, len(phases), seed=3, phases=phases)
    assert world.violations.found == []
    assert records > 500
