"""The share of the simulation that every test run has: seeds, directed scenarios, and mutants that must be caught."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.sim.mutants import MASKED, MUTANTS
from tests.sim.scenarios import KEPT, STORIES
from tests.sim.world import Failure, World, run

STEPS = 1200
CHUNK = 100
CHUNKS = 4


@pytest.mark.parametrize("start", range(0, CHUNK * CHUNKS, CHUNK))
def test_seeds(start: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(start, start + CHUNK):
        try:
            counts += run(seed, STEPS).counts
        except Failure as failure:
            pytest.fail(f"{failure}; replay: python -m tests.sim --seed {seed} --steps {STEPS} --trace")
    assert counts["elections"] > CHUNK / 2, counts
    assert counts["commits"] > 5 * CHUNK, counts
    assert counts["unknown outcomes"] > CHUNK, counts


def test_a_seed_is_one_story() -> None:
    def story(seed: int) -> tuple[list[str], Counter[str]]:
        world = World(seed, is_tracing=True)
        for _ in range(STEPS):
            world.step()
        world.converge()
        return list(world.trace), world.counts

    for seed in range(5):
        assert story(seed) == story(seed)


@pytest.mark.parametrize("name", STORIES)
def test_scenarios(name: str) -> None:
    STORIES[name]()


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in MASKED])
def test_mutants_are_caught(name: str) -> None:
    mutation, known = MUTANTS[name]
    with mutation():
        if name in KEPT:
            with pytest.raises(AssertionError):
                KEPT[name]()
            return
        with pytest.raises(Failure):
            for seed in (known, *range(1500)):
                run(seed, STEPS)
