"""ApiVersions (key 18), versions 0-5.

Behaviour: lists the served APIs, from the dispatch table, and the features with their levels (KIP-584); the answer is the
same for every client. A request from version 3 on names the client's software (KIP-511), which is
kept with the connection; a name of a form that is not allowed is INVALID_REQUEST.

Versions: flexible from 3 on, the response header never; from 5 on a client may say which cluster and node it means to
reach (KIP-1242): both or neither, and a wrong one is REBOOTSTRAP_REQUIRED.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.errors import ErrorCode
from tierlog.metadata.features import FEATURES, FinalizedLevels
from tierlog.wire.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)
from tierlog.wire.registry import ApiSpec

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

SOFTWARE_MAX_CHARS = 128  # kept of a client's software name and version
_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


SUPPORTED_FEATURES = [
    SupportedFeatureKey(name=name, min_version=feature.levels.min_level, max_version=feature.levels.max_level)
    for name, feature in FEATURES.items()
]


def finalized(levels: FinalizedLevels) -> list[FinalizedFeatureKey]:
    """The level of each supported feature; as in Kafka, both ends of the range are the level."""
    return [
        FinalizedFeatureKey(
            name=name, max_version_level=levels.level(name), min_version_level=levels.level(name)
        )
        for name in FEATURES
    ]


def served(specs: Iterable[ApiSpec]) -> list[ApiVersion]:
    """The advertised version ranges, ordered by API key."""
    return [
        ApiVersion(api_key=spec.key, min_version=spec.min_version, max_version=spec.max_version)
        for spec in sorted(specs, key=lambda spec: spec.key)
    ]


def handle(services: Services, ctx: RequestContext, request: ApiVersionsRequest) -> ApiVersionsResponse:
    if ctx.api_version >= 3:
        software = (request.client_software_name, request.client_software_version)
        if not all(_SOFTWARE.fullmatch(text) for text in software):
            return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
        ctx.session.client_software = " ".join(software)[:SOFTWARE_MAX_CHARS]
    if ctx.api_version >= 5:
        if (request.cluster_id is None) != (request.node_id == -1):
            return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
        meant = (request.cluster_id, request.node_id)
        if request.cluster_id is not None and meant != (services.cluster_id, services.broker_id):
            return ApiVersionsResponse(error_code=ErrorCode.REBOOTSTRAP_REQUIRED)
    image = services.image
    return ApiVersionsResponse(
        api_keys=services.served_apis,
        supported_features=SUPPORTED_FEATURES,
        finalized_features_epoch=image.revision,
        finalized_features=finalized(image.features),
    )
