"""The tier's commit and orphan protocol in a simulated world, and mutants that it must catch."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.tiering_world import run, zombie_sweeps
from tiering.lifecycle import Attempts, AttemptState, Named, ObjectName

SEEDS = 40


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_live_object_is_ever_missing_and_every_orphan_goes(seed: int) -> None:
    run(seed, 600)


def test_pages_are_reached() -> None:
    world = run(1, 2_000, retention_bytes=9_000, unrest=0.05)
    assert world.head.page_index is not None
    assert world.head.removed_end > 0


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(10_000, 10**9), steps=st.integers(1, 300))
def test_any_seed(seed: int, steps: int) -> None:
    run(seed, steps)


class UnknownIsFailed(Attempts):
    """Mutant of O3: an unknown outcome is taken for a refusal."""

    def unknown(self, uuid: bytes) -> None:
        self.failed(uuid)


class NoEpochs(Attempts):
    """Mutant of O1 and O4: every unreferenced object goes, whoever writes it."""

    def sweep(self, listed: Iterable[ObjectName], reread: Named) -> tuple[ObjectName, ...]:
        return tuple(name for name in listed if name not in reread)


class Impatient(Attempts):
    """Mutant of O3: does not wait for a later write of the head."""

    def settle(self, reread: Named) -> tuple[ObjectName, ...]:
        for uuid, attempt in list(self._by_uuid.items()):
            if attempt.state is AttemptState.UNKNOWN and attempt.name not in reread:
                self._move(uuid, AttemptState.ORPHANED)
        return super().settle(reread)


@pytest.mark.parametrize("mutant", [UnknownIsFailed, Impatient])
def test_mutants_are_caught(mutant: type[Attempts]) -> None:
    for seed in range(300):
        try:
            run(seed, 400, mutant)
        except AssertionError as error:
            assert str(error).startswith("I1")
            return
    raise AssertionError("survived")


def test_a_zombie_sweeps_nothing_of_its_successor() -> None:
    zombie_sweeps(Attempts)
    with pytest.raises(AssertionError, match="I13"):
        zombie_sweeps(NoEpochs)
