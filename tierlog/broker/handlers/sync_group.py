"""SyncGroup (key 14), versions 0-5: the leader hands in the assignment, every member gets its part.

Behaviour: members are answered when the leader's assignment is committed to ``__consumer_offsets``.

Versions: from 3 on static members (KIP-345); from 5 on protocol type and name are required, checked and answered.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.errors import ErrorCode
from tierlog.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

PROTOCOL_SINCE = 5


def handle(
    services: Services, ctx: RequestContext, request: SyncGroupRequest
) -> SyncGroupResponse | Awaitable[SyncGroupResponse]:
    if ctx.api_version >= PROTOCOL_SINCE and (request.protocol_type is None or request.protocol_name is None):
        return SyncGroupResponse(error_code=ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    return services.groups.call(
        request.group_id,
        lambda shard, ticket, now_ms: shard.decide_sync(ticket, request, now_ms),
        lambda error: SyncGroupResponse(error_code=error),
    )
