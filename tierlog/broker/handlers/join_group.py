"""JoinGroup (key 11), versions 0-9: enters a group, or takes part in its next rebalance.

Behaviour: the answer comes when the rebalance ends. Group ids must not be empty; the session timeout must lie within
``group.min.session.timeout.ms`` and ``group.max.session.timeout.ms``.

Versions: 0 has no rebalance timeout (the session timeout is used instead); from 4 on a new dynamic member first gets its
member id with MEMBER_ID_REQUIRED (KIP-394); from 5 on static members (KIP-345); from 7 on the answer has the protocol type;
from 9 on a replaced static leader is told to skip the assignment (KIP-814).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING
from uuid import uuid4

from tierlog.broker.groups.group_calls import caller_of
from tierlog.broker.network.context import RequestContext
from tierlog.coordination.membership import refuse_join
from tierlog.errors import ErrorCode
from tierlog.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

# Each protocol is compared with those of all other members; clients offer a handful.
MAX_PROTOCOLS = 1_000


def handle(
    services: Services, ctx: RequestContext, request: JoinGroupRequest
) -> JoinGroupResponse | Awaitable[JoinGroupResponse]:
    if len(request.protocols) > MAX_PROTOCOLS:
        return refuse_join(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, request.member_id, ctx.api_version)
    caller = caller_of(ctx, str(uuid4()))
    return services.groups.call(
        request.group_id,
        lambda shard, ticket, now_ms: shard.decide_join(ticket, request, caller, now_ms),
        lambda error: refuse_join(error, request.member_id, ctx.api_version),
    )
