"""Heartbeat (key 12), versions 0-4: keeps a member's session alive.

Behaviour: REBALANCE_IN_PROGRESS tells the member to join again. While the coordinator loads, a heartbeat is
accepted unchecked, as in Kafka: sessions begin anew after the load.

Versions: from 3 on static members (KIP-345).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.errors import ErrorCode
from tierlog.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


def handle(
    services: Services, ctx: RequestContext, request: HeartbeatRequest
) -> HeartbeatResponse | Awaitable[HeartbeatResponse]:
    return services.groups.call(
        request.group_id,
        lambda shard, ticket, now_ms: shard.decide_heartbeat(ticket, request, now_ms),
        refuse,
    )


def refuse(error: ErrorCode) -> HeartbeatResponse:
    if error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
        error = ErrorCode.NONE
    return HeartbeatResponse(error_code=error)
