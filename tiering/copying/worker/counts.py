"""The worker's requests to the store, told to the broker as differences, so that one scrape shows those of both. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from tiering.objects.measured import StoreStats, VerbStats

Counts: TypeAlias = dict[str, dict[str, Any]]
"""Verb → what has changed: numbers by field, ``errors`` by kind, ``buckets``."""
_NUMBERS = ("calls", "requests", "sent_bytes", "received_bytes", "cancelled", "in_flight", "seconds")


class Telling:
    """What was told of one ``StoreStats``."""

    def __init__(self, stats: StoreStats) -> None:
        self._stats = stats
        self._told = StoreStats()

    def news(self) -> Counts:
        """What has changed since the last time; empty if nothing has."""
        found: Counts = {}
        for verb, now in self._stats.verbs.items():
            told = self._told[verb]
            if (changed := _difference(now, told)) != {}:
                found[verb] = changed
                add(self._told, {verb: changed})
        return found


def _difference(now: VerbStats, told: VerbStats) -> dict[str, Any]:
    changed = {name: getattr(now, name) - getattr(told, name) for name in _NUMBERS}
    found: dict[str, Any] = {name: by for name, by in changed.items() if by}
    if now.errors != told.errors:
        found["errors"] = {kind: count - told.errors.get(kind, 0) for kind, count in now.errors.items()}
    if now.buckets != told.buckets:
        found["buckets"] = [a - b for a, b in zip(now.buckets, told.buckets, strict=True)]
    return found


def add(stats: StoreStats, news: Mapping[str, Mapping[str, Any]]) -> None:
    """Adds what a worker told; verbs that are not known are passed over."""
    for verb, row in stats.verbs.items():
        told = news.get(verb)
        if told is None:
            continue
        for name in _NUMBERS:
            setattr(row, name, getattr(row, name) + told.get(name, 0))
        for kind, count in told.get("errors", {}).items():
            row.errors[kind] = row.errors.get(kind, 0) + count
        for number, count in enumerate(told.get("buckets", ())):
            row.buckets[number] += count


def give_up(stats: StoreStats, told: StoreStats) -> None:
    """The worker that told this has died: what it had under way is no more."""
    for verb, row in stats.verbs.items():
        row.in_flight -= told[verb].in_flight
