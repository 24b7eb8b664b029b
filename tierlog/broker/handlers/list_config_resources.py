"""ListConfigResources (key 74), versions 0-1: the resources that DescribeConfigs knows (KIP-1142).

Behaviour: a request without types lists topics, brokers and their loggers. Client-metrics subscriptions and groups are
never listed, since their configs cannot be altered yet.

Versions: 0 lists client-metrics subscriptions only; types from 1 on, an unknown one is UNSUPPORTED_VERSION.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierlog.broker.handlers.describe_configs import ResourceType
from tierlog.broker.network.context import RequestContext
from tierlog.errors import ErrorCode
from tierlog.wire.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


def handle(
    services: Services, ctx: RequestContext, request: ListConfigResourcesRequest
) -> ListConfigResourcesResponse:
    types = set(request.resource_types)
    if not types <= set(ResourceType):
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    if ctx.api_version == 0:
        types = {ResourceType.CLIENT_METRICS}
    elif not types:
        types = set(ResourceType)
    resources = []
    if ResourceType.TOPIC in types:
        resources += [(ResourceType.TOPIC, name) for name in sorted(services.image.topics_by_name)]
    for kind in (ResourceType.BROKER, ResourceType.BROKER_LOGGER):
        if kind in types:
            resources += [(kind, str(broker.broker_id)) for broker in services.image.active_brokers()]
    return ListConfigResourcesResponse(
        config_resources=[ConfigResource(resource_name=name, resource_type=kind) for kind, name in resources]
    )
