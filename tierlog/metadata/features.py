"""Feature levels of the whole cluster (KIP-584): which features exist, and how their levels change.

``SUPPORTED`` is the table of all features that this version supports at more than one level; it is empty as long as
nothing is served in two ways. A request changes all its features in one transaction or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple

from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.transactions import Compare, Put, Txn

# Feature → lowest and highest level.
SUPPORTED: Mapping[str, tuple[int, int]] = MappingProxyType({})


class UpgradeType(IntEnum):
    """The numbers are those of UpdateFeatures."""

    UNKNOWN = 0
    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


class FeatureUpdate(NamedTuple):
    """Level 0 removes the feature."""

    feature: str
    level: int
    upgrade_type: UpgradeType = UpgradeType.UPGRADE


@dataclass(frozen=True, slots=True)
class FeatureResult:
    """The answer about all updates of a request."""

    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


@dataclass(frozen=True, slots=True)
class FeatureDecision:
    result: FeatureResult
    txns: tuple[Txn, ...] = ()


def decide_feature_updates(
    image: MetadataImage,
    updates: Sequence[FeatureUpdate],
    supported: Mapping[str, tuple[int, int]] = SUPPORTED,
) -> FeatureDecision:
    """One decision for the request; the message names the first feature that is wrong."""
    after = dict(image.features)
    for update in updates:
        reason = _problem(image, update, supported)
        if reason is not None:
            message = f"Invalid update version {update.level} for feature {update.feature}. {reason}"
            return FeatureDecision(FeatureResult(ErrorCode.INVALID_UPDATE_VERSION, message))
        after[update.feature] = update.level
    after = {name: level for name, level in after.items() if level}
    if after == image.features:
        return FeatureDecision(FeatureResult())
    guard = Compare(keys.FEATURES, "mod", image.features_revision)
    return FeatureDecision(
        FeatureResult(), (Txn((guard,), (Put(keys.FEATURES, records.encode_features(after)),)),)
    )


def _problem(
    image: MetadataImage, update: FeatureUpdate, supported: Mapping[str, tuple[int, int]]
) -> str | None:
    current = image.features.get(update.feature, 0)
    levels = supported.get(update.feature)
    if update.upgrade_type is UpgradeType.UNKNOWN:
        return "The controller does not support the given upgrade type."
    if update.level < 0:
        return "A feature version cannot be less than 0."
    if levels is None:
        return "Local controller does not support this feature."
    low, high = levels
    if update.level and not low <= update.level <= high:
        return f"Local controller only supports versions {low}-{high}"
    if update.level < current and update.upgrade_type is UpgradeType.UPGRADE:
        return (
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or "
            "unsafe downgrade."
        )
    if update.level > current and update.upgrade_type is not UpgradeType.UPGRADE:
        return "Can't downgrade to a newer version."
    return None
