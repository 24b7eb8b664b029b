"""A few faults of three brokers under the load of real clients; ``make chaos-cluster`` is the long run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.cluster.campaign import Campaign
from tests.chaos.cluster.schedule import Planned
from tests.chaos.cluster.world import Shape

LEASE_MS = 3000
ROUNDS = (
    (Planned("kill", 1, 0.0, 1.0, 0),),
    (Planned("pause", 2, 0.0, LEASE_MS / 1000 + 1, 0), Planned("kill", 3, 0.5, 1.0, 0)),
)


@pytest.mark.slow
def test_faults_and_a_rolling_restart_lose_double_and_move_nothing(tmp_path: Path) -> None:
    with Campaign(tmp_path, Shape(lease_ms=LEASE_MS)) as campaign:
        for number, each in enumerate(ROUNDS, 1):
            assert campaign.round(number, each), campaign.violations
        campaign.roll()
        assert campaign.rolling is not None
        assert campaign.rolling.failed == 0
        assert campaign.finish() == []
        assert campaign.world.bugs() == []
        read = sum(map(len, campaign.history.final.values()))
    assert read > 500
