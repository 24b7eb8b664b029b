"""AlterConfigs (key 33), versions 0-2: replaces the configs of a resource by those given (KIP-133).

Behaviour: configs that are not named are deleted; a null value is INVALID_REQUEST. Otherwise as
IncrementalAlterConfigs, which replaces this API in newer clients; logger levels are not a resource of this
API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierlog.broker.handlers.describe_configs import ResourceType
from tierlog.broker.handlers.excess import ERROR, MESSAGE
from tierlog.broker.handlers.incremental_alter_configs import Outcome, alter, checked, items
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import in_slices
from tierlog.errors import ErrorCode
from tierlog.metadata.control.configs import ConfigAlteration, ConfigOp, ConfigOperation
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

__all__ = ["handle", "items", "refuse"]


async def handle(
    services: Services, ctx: RequestContext, request: AlterConfigsRequest
) -> AlterConfigsResponse:
    outcomes = await alter(
        services,
        [(resource.resource_type, resource.resource_name) for resource in request.resources],
        [_alteration(services, resource) async for resource in in_slices(request.resources)],
        request.validate_only,
    )
    return AlterConfigsResponse(
        responses=[
            AlterConfigsResourceResponse(
                error_code=outcome.error,
                error_message=outcome.message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource, outcome in zip(request.resources, outcomes, strict=True)
        ]
    )


def _alteration(services: Services, resource: AlterConfigsResource) -> ConfigAlteration | Outcome:
    if resource.resource_type == ResourceType.BROKER_LOGGER:
        return Outcome(ErrorCode.INVALID_REQUEST, f"Unknown resource type {resource.resource_type}")
    operations = [ConfigOperation(config.name, ConfigOp.SET, config.value) for config in resource.configs]
    return checked(services, (resource.resource_type, resource.resource_name), operations, replace_all=True)


def refuse(request: AlterConfigsRequest) -> AlterConfigsResponse:
    resources = request.resources
    return AlterConfigsResponse(
        responses=lazily(
            len(resources),
            lambda: (
                AlterConfigsResourceResponse(
                    error_code=ERROR,
                    error_message=MESSAGE,
                    resource_type=resource.resource_type,
                    resource_name=resource.resource_name,
                )
                for resource in resources
            ),
        )
    )
