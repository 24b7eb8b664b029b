"""UpdateFeatures (key 57), versions 0-2: levels of features of the whole cluster (KIP-584, KIP-1022).

Behaviour: the controller makes all updates or none; ``metadata.features`` lists the features. An error is that of the whole
request; of a feature that is named twice the last update counts. ``validate_only`` checks and changes nothing.

Versions: 0 has a flag "may downgrade" instead of the kind of change; results per feature up to 1, whose
message is NONE, as in Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tierlog.broker.handlers.excess import ERROR, MESSAGE
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import in_slices
from tierlog.errors import ErrorCode
from tierlog.metadata.control.features import FeatureUpdate, UpgradeType
from tierlog.wire.messages.update_features import (
    FeatureUpdateKey,
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


async def handle(
    services: Services, ctx: RequestContext, request: UpdateFeaturesRequest
) -> UpdateFeaturesResponse:
    updates = [_update(row, ctx.api_version) async for row in in_slices(request.feature_updates)]
    result = await services.admin.update_features(
        updates, validate_only=request.validate_only, timeout_ms=request.timeout_ms
    )
    if result.error is not ErrorCode.NONE:
        message = (
            f"The update failed for all features since the following feature had an error: {result.message}"
        )
        return UpdateFeaturesResponse(error_code=result.error, error_message=message)
    rows = [UpdatableFeatureResult(feature=update.feature, error_message="NONE") for update in updates]
    return UpdateFeaturesResponse(error_message=None, results=rows if ctx.api_version < 2 else [])


def items(request: UpdateFeaturesRequest) -> Iterable[int]:
    yield len(request.feature_updates)


def refuse(request: UpdateFeaturesRequest) -> UpdateFeaturesResponse:
    return UpdateFeaturesResponse(error_code=ERROR, error_message=MESSAGE)


def _update(row: FeatureUpdateKey, version: int) -> FeatureUpdate:
    if version == 0:
        kind = UpgradeType.SAFE_DOWNGRADE if row.allow_downgrade else UpgradeType.UPGRADE
    elif row.upgrade_type in UpgradeType.__members__.values():
        kind = UpgradeType(row.upgrade_type)
    else:
        kind = UpgradeType.UNKNOWN
    return FeatureUpdate(row.feature, row.max_version_level, kind)
