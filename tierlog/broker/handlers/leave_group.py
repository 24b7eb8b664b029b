"""LeaveGroup (key 13), versions 0-5: members leave, or an administrator removes them.

Behaviour: one rebalance for all leaving members. A static member may be named by its instance id alone.

Versions: up to 2 one member and one error; from 3 on a batch with an error per member (KIP-345).
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING

from tierlog.broker.groups.group_calls import caller_of, combine_in_steps
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


PIECE = 500  # members that leave in one step: one rebalance, since it begins with the first


def handle(
    services: Services, ctx: RequestContext, request: LeaveGroupRequest
) -> Steps[LeaveGroupResponse | Awaitable[LeaveGroupResponse]]:
    caller = caller_of(ctx)

    def leave(part: LeaveGroupRequest) -> LeaveGroupResponse | Awaitable[LeaveGroupResponse]:
        return services.groups.call(
            part.group_id,
            lambda shard, ticket, now_ms: shard.decide_leave(ticket, part, caller, now_ms),
            lambda error: LeaveGroupResponse(error_code=error),
        )

    return combine_in_steps(map(leave, pieces(request)), joined)


def pieces(request: LeaveGroupRequest) -> Iterator[LeaveGroupRequest]:
    members = request.members
    if len(members) <= PIECE:
        yield request
        return
    for start in range(0, len(members), PIECE):
        yield LeaveGroupRequest(group_id=request.group_id, members=members[start : start + PIECE])


def joined(parts: list[LeaveGroupResponse]) -> LeaveGroupResponse:
    """One answer from those of all pieces; an error of the whole group in one piece is the answer's error."""
    failed = next((part for part in parts if part.error_code), None)
    if failed is not None:
        return failed
    whole = parts[0]
    for part in parts[1:]:
        whole.members += part.members
    return whole
