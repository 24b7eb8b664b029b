"""FindCoordinator (key 10), versions 0-6: names the broker that coordinates a group.

Behaviour: the coordinator is the leader of the group's partition of ``__consumer_offsets``; its address is that
of the listener that got the request. The first request creates that topic. COORDINATOR_NOT_AVAILABLE while the
partition has no leader. For transactional ids this broker names itself: the producer then learns from
InitProducerId that transactions are not served.

Versions: up to 3 one key, from 4 on several (KIP-699).
Deliberately absent: share groups (key type 2 of version 6), answered INVALID_REQUEST.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.coordination.partitioning import GROUP_TOPIC
from tierlog.errors import ErrorCode
from tierlog.wire.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

GROUP, TRANSACTION = 0, 1
KEYS_SINCE = 4


def handle(
    services: Services, ctx: RequestContext, request: FindCoordinatorRequest
) -> Steps[FindCoordinatorResponse] | Awaitable[FindCoordinatorResponse]:
    if request.key_type == GROUP and services.image.topic(GROUP_TOPIC) is None:
        return create_and_answer(services, ctx, request)
    return answer(services, ctx, request)


async def create_and_answer(
    services: Services, ctx: RequestContext, request: FindCoordinatorRequest
) -> FindCoordinatorResponse:
    await services.topic_creation.ensure_offsets_topic()
    await services.replicas.settled()
    return await services.slices.run(answer(services, ctx, request))


def answer(
    services: Services, ctx: RequestContext, request: FindCoordinatorRequest
) -> Steps[FindCoordinatorResponse]:
    if ctx.api_version >= KEYS_SINCE:
        response = FindCoordinatorResponse()
        for key in request.coordinator_keys:
            yield
            response.coordinators.append(find(services, ctx.listener, request.key_type, key))
        return response
    found = find(services, ctx.listener, request.key_type, request.key)
    return FindCoordinatorResponse(
        error_code=found.error_code,
        error_message=found.error_message or ErrorCode.NONE.name,  # as Kafka: never empty in these versions
        node_id=found.node_id,
        host=found.host,
        port=found.port,
    )


def find(services: Services, listener: str, key_type: int, key: str) -> Coordinator:
    if key_type == GROUP:
        leader = leader_of(services, key)
    elif key_type == TRANSACTION:
        leader = services.broker_id
    else:
        return refuse(key, ErrorCode.INVALID_REQUEST, "Only groups and transactional ids have a coordinator.")
    broker = services.image.brokers.get(leader)
    if broker is not None and broker.is_active and broker.registration is not None:
        endpoint = broker.registration.endpoint_on(listener)
        if endpoint is not None:
            return Coordinator(
                key=key, node_id=leader, host=endpoint.host, port=endpoint.port, error_message=""
            )
    return refuse(key, ErrorCode.COORDINATOR_NOT_AVAILABLE, "The coordinator is not available.")


def leader_of(services: Services, group_id: str) -> int:
    """The broker that leads the group's partition; -1 if none does."""
    topic = services.image.topic(GROUP_TOPIC)
    partition = services.groups.partition_of(group_id)
    state = None if topic is None or partition is None else topic.partitions.get(partition)
    return -1 if state is None else state.leader


def refuse(key: str, error: ErrorCode, message: str) -> Coordinator:
    return Coordinator(key=key, node_id=-1, host="", port=-1, error_code=error, error_message=message)
