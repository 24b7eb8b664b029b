"""A short, repeatable slice of the live fuzz; ``make fuzz`` is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.live import OVERRIDES, LiveFuzz
from tests.servers.tierlog import BrokerProcess

READERS = frozenset((1, 2))
"""Fetch and ListOffsets."""


def test_a_broker_under_fire_keeps_serving(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path, dict(OVERRIDES)) as broker:
        fuzz = LiveFuzz(broker, seed=1)
        fuzz.frames(4_000)
        fuzz.batches(2_000)
        fuzz.slow(every=71, versions="newest")
        fuzz.garbage()
        fuzz.slow(every=23, versions="newest", only=READERS)
        assert not fuzz.too_dear, fuzz.too_dear
