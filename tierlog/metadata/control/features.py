"""UpdateFeatures: may a level be finalized?

Every level must be in the table of this version and in the ranges that each registered broker states, fenced or not. A level
may rise; it falls only where an unsafe downgrade is asked for and the table allows it. A request changes all its features in
one transaction or none. Errors and their order are those of Kafka 4.4, where Kafka has them.

The transaction compares the registrations on which the decision rests, so it comes to nothing where it is late and one of
those brokers has come back as another version. A broker that registers afterwards is not unfenced (``control.controller``),
and stops by itself (``features.explain_gap``).

Invariants: M13 no broker is unfenced while a finalized level is outside the ranges that it states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.features import BASE_RANGE, FEATURES, Range, Table, above_base
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.transactions import MAX_TXN_OPS, Compare, Delete, Put, Txn

# Comparisons of one transaction: what a store takes, less those that the driver adds.
MAX_COMPARED_BROKERS = MAX_TXN_OPS - 8


class UpgradeType(IntEnum):
    """The numbers are those of UpdateFeatures."""

    UNKNOWN = 0
    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


class FeatureUpdate(NamedTuple):
    feature: str
    level: int
    upgrade_type: UpgradeType = UpgradeType.UPGRADE


@dataclass(frozen=True, slots=True)
class FeatureResult:
    """The answer about all updates of a request. ``levels``: what is stored once it has come true."""

    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    levels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FeatureDecision:
    result: FeatureResult
    txns: tuple[Txn, ...] = ()


def decide_feature_updates(
    image: MetadataImage,
    updates: Sequence[FeatureUpdate],
    *,
    validate_only: bool = False,
    table: Table = FEATURES,
) -> FeatureDecision:
    """One decision for the whole request; the message names the first feature that is wrong. Of a feature that is named
    twice the last update counts."""
    before = image.features.above_base
    asked: dict[str, int] = {}
    for update in {update.feature: update for update in updates}.values():
        reason = _problem(image, update, table)
        if reason is not None:
            message = f"Invalid update version {update.level} for feature {update.feature}. {reason}"
            return FeatureDecision(FeatureResult(ErrorCode.INVALID_UPDATE_VERSION, message))
        asked[update.feature] = update.level
    after = above_base({**before, **asked})
    if after == before or validate_only:
        return FeatureDecision(FeatureResult(levels=before))
    change = Put(keys.FEATURES, records.encode_features(after)) if after else Delete(keys.FEATURES)
    return FeatureDecision(FeatureResult(levels=after), (Txn(_guards(image), (change,)),))


def _guards(image: MetadataImage) -> tuple[Compare, ...]:
    """What the decision rests on. Brokers beyond those that fit are left to their own check."""
    known = sorted(image.brokers.items())[:MAX_COMPARED_BROKERS]
    return (
        Compare(keys.FEATURES, "mod", image.features.revision),
        *(Compare(keys.registration(i), "create", broker.broker_epoch) for i, broker in known),
    )


def _problem(image: MetadataImage, update: FeatureUpdate, table: Table) -> str | None:
    name, level, kind = update
    if kind is UpgradeType.UNKNOWN:
        return "The controller does not support the given upgrade type."
    if level < 0:
        return "A feature version cannot be less than 0."
    controller = f"Local controller {image.controller_id}"
    feature = table.get(name)
    if feature is None:
        return f"{controller} does not support this feature." if level else f"Feature {name} not found."
    problem = _outside(level, controller, feature.levels) or _missing_at(image, name, level)
    if problem is not None:
        return problem
    current = image.features.level(name)
    if level > current and kind is not UpgradeType.UPGRADE:
        return "Can't downgrade to a newer version."
    if level >= current:
        return None
    if kind is UpgradeType.UPGRADE:
        return (
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or "
            "unsafe downgrade."
        )
    if not feature.may_fall:
        return f"It cannot be downgraded: what is written at version {current} stays, and version {level} cannot read it."
    if kind is UpgradeType.SAFE_DOWNGRADE:
        return (
            f"A downgrade is not safe: what is written at version {current} stays, and version {level} cannot read it. "
            "Only an unsafe downgrade is carried out."
        )
    return None


def _missing_at(image: MetadataImage, name: str, level: int) -> str | None:
    """Names the first registered broker that does not support the level."""
    for broker_id in sorted(image.brokers):
        registration = image.brokers[broker_id].registration
        if registration is not None:
            supported = registration.features.get(name, BASE_RANGE)
            problem = _outside(level, f"Broker {broker_id}", supported)
            if problem is not None:
                return problem
    return None


def _outside(level: int, who: str, supported: Range) -> str | None:
    return None if level in supported else f"{who} only supports versions {supported}"
