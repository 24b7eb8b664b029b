"""DescribeCluster (key 60), versions 0-2: brokers, controller and cluster id, for the listener that got the request.

Versions: the endpoint type from 1 on (KIP-919): there are no controller endpoints here, so asking for them is
MISMATCHED_ENDPOINT_TYPE; fenced brokers are listed on request from 2 on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierlog.broker.handlers.metadata import CLUSTER_OPERATIONS
from tierlog.broker.network.context import RequestContext
from tierlog.errors import ErrorCode
from tierlog.wire.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

BROKER_ENDPOINTS = 1
CONTROLLER_ENDPOINTS = 2


def handle(
    services: Services, ctx: RequestContext, request: DescribeClusterRequest
) -> DescribeClusterResponse:
    if request.endpoint_type != BROKER_ENDPOINTS:
        if request.endpoint_type == CONTROLLER_ENDPOINTS:
            error, message = ErrorCode.MISMATCHED_ENDPOINT_TYPE, "This listener has broker endpoints only."
        else:
            error = ErrorCode.UNSUPPORTED_ENDPOINT_TYPE
            message = f"Unsupported endpoint type {request.endpoint_type}."
        return DescribeClusterResponse(error_code=error, error_message=message)
    image = services.image
    response = DescribeClusterResponse(cluster_id=services.cluster_id, controller_id=image.controller_id)
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    for broker in image.brokers.values():
        if broker.registration is None or not (broker.is_active or request.include_fenced_brokers):
            continue
        if (endpoint := broker.registration.endpoint_on(ctx.listener)) is not None:
            response.brokers.append(
                DescribeClusterBroker(
                    broker_id=broker.broker_id,
                    host=endpoint.host,
                    port=endpoint.port,
                    rack=broker.registration.rack,
                    is_fenced=not broker.is_active,
                )
            )
    return response
