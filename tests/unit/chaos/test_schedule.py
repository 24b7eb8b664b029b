"""Which faults a seed gives."""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import pytest

from tests.chaos.cluster.schedule import KINDS, OF_PROCESS, OF_STORE, hold_s, lacking, overlapping, plan

BROKERS = (1, 2, 3)
LEASE_S = 9.0


def test_a_seed_gives_the_same_schedule_every_time_and_another_seed_another() -> None:
    first = plan(1, KINDS, 50, LEASE_S, BROKERS)
    assert first == plan(1, KINDS, 50, LEASE_S, BROKERS)
    assert first != plan(2, KINDS, 50, LEASE_S, BROKERS)


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_comes_often_and_enough_of_them_overlap(seed: int) -> None:
    rounds = plan(seed, KINDS, 200, LEASE_S, BROKERS)
    counts = Counter(planned.kind for each in rounds for planned in each)
    assert 200 <= counts.total() <= 202
    assert set(counts) == set(KINDS)
    assert min(counts.values()) >= 10
    assert sum(map(overlapping, rounds)) >= 40
    assert sum(counts[kind] for kind in OF_STORE) >= 40
    assert lacking(counts, KINDS) is None


@pytest.mark.parametrize("seed", range(20))
def test_what_befalls_a_process_befalls_another_than_what_lasts_beside_it(seed: int) -> None:
    for each in plan(seed, KINDS, 200, LEASE_S, BROKERS):
        victims = [planned.victim for planned in each if planned.kind in OF_PROCESS]
        assert len(victims) == len(set(victims))
        assert sum(planned.kind == "power" for planned in each) <= 1
        assert sum(planned.kind == "etcd loss" for planned in each) <= 1
        assert all(before.at_s <= after.at_s <= before.until_s for before, after in itertools.pairwise(each))


def test_a_run_that_spares_the_store_has_failed() -> None:
    counts = {"kill": 161, OF_STORE[0]: 39}
    assert lacking(counts, KINDS) == "only 39 of 200 faults befell the metadata store; at least 20% must"
    assert lacking(counts, ("kill", OF_STORE[0])) is None, "it was asked for no more"
    assert lacking(counts | {"kill": 156}, KINDS) is None


def test_a_pause_outlasts_the_lease() -> None:
    rng = Random(1)
    assert all(LEASE_S < hold_s(rng, "pause", LEASE_S) < LEASE_S + 5 for _ in range(100))
