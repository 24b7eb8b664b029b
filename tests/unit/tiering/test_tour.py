"""A tour finds what a listing of each folder finds, and never asks more often."""

from __future__ import annotations

import random

import pytest

from tiering.sweeping.tour import Tour

PAGE = 10


class Bucket:
    def __init__(self, keys: list[str]) -> None:
        self.keys = sorted(keys)
        self.requests = 0

    def list(self, prefix: str, start_after: str) -> list[str]:
        self.requests += 1
        return [key for key in self.keys if key.startswith(prefix) and key > start_after][:PAGE]

    def folder(self, prefix: str) -> list[str]:
        found: list[str] = []
        while True:
            page = self.list(prefix, found[-1] if found else "")
            found += page
            if len(page) < PAGE:
                return found


def toured(bucket: Bucket, folders: list[str]) -> dict[str, list[str]]:
    tour = Tour(folders, page_keys_max=PAGE)
    found: dict[str, list[str]] = {}
    done: list[str] = []
    while (start_after := tour.start_after) is not None:
        page = bucket.list("", start_after)
        for part in tour.take(page):
            assert part.folder not in done
            found.setdefault(part.folder, []).extend(page[part.first : part.end])
            done += [part.folder] * part.is_last
    assert sorted(done) == sorted(folders)
    return found


@pytest.mark.parametrize("seed", range(50))
def test_it_finds_the_same_and_never_asks_more_often(seed: int) -> None:
    rng = random.Random(seed)
    names = [f"{rng.randrange(16):x}/c/{number}/" for number in range(rng.randrange(1, 30))]
    keys = [f"{name}{n:03}" for name in names for n in range(rng.choice((0, 1, 9, 10, 11, 40)))]
    wanted = rng.sample(names, rng.randrange(1, len(names) + 1))
    alone, together = Bucket(keys), Bucket(keys)
    assert toured(together, wanted) == {name: alone.folder(name) for name in wanted}
    assert together.requests <= alone.requests


def test_a_thousand_empty_folders_cost_one_request() -> None:
    bucket = Bucket([])
    assert toured(bucket, [f"{n:04x}/c/t/{n}/" for n in range(1_000)])
    assert bucket.requests == 1


def test_what_lies_between_two_folders_is_passed_over() -> None:
    bucket = Bucket([f"{n:04}/x" for n in range(1_000)])
    toured(bucket, ["0003/", "0900/"])
    assert bucket.requests == 2


def test_nothing_wanted_costs_nothing() -> None:
    assert Tour([]).start_after is None
