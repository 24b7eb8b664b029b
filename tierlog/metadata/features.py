"""Feature levels (KIP-584): the table of what this version supports, and what the cluster has finalized.

A feature is something that brokers of an earlier version would not understand in a store or a bucket, such as a new format.
It is written only once its level is finalized, and that only once every registered broker supports it (``control.features``
decides). So a rolling upgrade changes nothing that the version before could not read, until somebody finalizes the levels:

* Level 1 is what was done before the feature was there, so it needs no record: the store holds the levels above 1, and a
  cluster without the key, made by an earlier version, has level 1 of everything.
* A new cluster begins at the highest levels of the broker that founds it.
* A broker states its ranges in its registration; what it does not name it supports at level 1 only.
* A broker whose ranges do not hold every finalized level must not run (``first_gap``).

Whoever writes something new asks ``image.features.level(NAME)`` each time: the level may rise while a broker runs. The tier,
which knows no image, is handed a function that asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

TIER_FORMAT = "tierlog.tier.format"
TOPIC_STORES = "tierlog.topic.stores"
BASE_LEVEL = 1


class Range(NamedTuple):
    """The levels of a feature that somebody supports, both inclusive."""

    min_level: int
    max_level: int

    def __contains__(self, level: object) -> bool:
        return isinstance(level, int) and self.min_level <= level <= self.max_level

    def __str__(self) -> str:
        """As Kafka writes a range."""
        low, high = self
        return str(low) if low == high else f"{low}-{high}"


class Feature(NamedTuple):
    """``meaning``: of the highest level, for people. ``may_fall``: whether an unsafe downgrade may lower the level."""

    levels: Range
    meaning: str
    may_fall: bool


Ranges: TypeAlias = Mapping[str, Range]
Table: TypeAlias = Mapping[str, Feature]

BASE_RANGE = Range(BASE_LEVEL, BASE_LEVEL)
# What has been written to a bucket stays there, and a lower level could not describe it: so it does not fall.
FEATURES: Table = MappingProxyType(
    {
        TIER_FORMAT: Feature(
            Range(1, 2), "heads, pages and footers of format 2; storage classes", may_fall=False
        ),
        TOPIC_STORES: Feature(Range(1, 2), "topics with an object store of their own", may_fall=False),
    }
)


@dataclass(frozen=True, slots=True)
class FinalizedLevels:
    """The levels of the whole cluster. ``above_base``: feature → level, of those that are above ``BASE_LEVEL``.
    ``revision``: mod revision of their key, 0 while there is none."""

    above_base: Mapping[str, int] = field(default_factory=dict)
    revision: int = 0

    def level(self, feature: str) -> int:
        return self.above_base.get(feature, BASE_LEVEL)

    def first_gap(self, ranges: Ranges) -> tuple[str, Range] | None:
        """The first feature whose level is outside ``ranges``, with the range; None: whoever has them may run."""
        for name in sorted({*self.above_base, *ranges}):
            supported = ranges.get(name, BASE_RANGE)
            if self.level(name) not in supported:
                return name, supported
        return None


def supported_ranges(table: Table = FEATURES) -> dict[str, Range]:
    return {name: feature.levels for name, feature in table.items()}


def highest_levels(table: Table = FEATURES) -> dict[str, int]:
    """Of a new cluster, in the form that is stored."""
    return above_base({name: feature.levels.max_level for name, feature in table.items()})


def above_base(levels: Mapping[str, int]) -> dict[str, int]:
    """The levels that are stored."""
    return {name: level for name, level in levels.items() if level > BASE_LEVEL}


def explain_gap(levels: FinalizedLevels, name: str, supported: Range) -> str:
    """One line for the operator of a broker that must not run: what is wrong, and what to do."""
    level = levels.level(name)
    known = f"this tierlog supports {supported}"
    if level > supported.max_level:
        return f"the cluster has finalized {name} at level {level}, {known}: start the version that the other brokers run"
    return (
        f"the cluster is still at level {level} of {name}, {known}: start the version before, and upgrade the level "
        f"first with tierlog cluster features upgrade {name}={supported.min_level}"
    )
