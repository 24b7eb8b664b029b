"""LeaveGroup (key 13), versions 0-5: members leave, or an administrator removes them.

Behaviour: one rebalance for all who leave. A static member may be named by its instance id alone.

Versions: up to 2 one member and one error; from 3 on a batch with an error per member (KIP-345).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.context import RequestContext
from tierlog.broker.group_calls import caller_of
from tierlog.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse

if TYPE_CHECKING:
    from tierlog.broker.services import Services


def handle(
    services: Services, ctx: RequestContext, request: LeaveGroupRequest
) -> LeaveGroupResponse | Awaitable[LeaveGroupResponse]:
    caller = caller_of(ctx)
    return services.groups.call(
        request.group_id,
        lambda shard, ticket, now_ms: shard.decide_leave(ticket, request, caller, now_ms),
        lambda error: LeaveGroupResponse(error_code=error),
    )
