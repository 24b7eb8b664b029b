"""DeleteGroups (key 42), versions 0-3: removes empty groups with their offsets.

Behaviour: a group with members is NON_EMPTY_GROUP, an unknown group GROUP_ID_NOT_FOUND. A name given twice is
answered once.

Versions: from 3 on each error has a message.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.groups.group_calls import combine_in_steps
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.errors import ErrorCode
from tierlog.wire.messages.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


def handle(
    services: Services, ctx: RequestContext, request: DeleteGroupsRequest
) -> Steps[DeleteGroupsResponse | Awaitable[DeleteGroupsResponse]]:
    answers = (delete(services, group_id) for group_id in dict.fromkeys(request.groups_names))
    return combine_in_steps(answers, lambda results: DeleteGroupsResponse(results=results))


def delete(services: Services, group_id: str) -> DeletableGroupResult | Awaitable[DeletableGroupResult]:
    def refuse(error: ErrorCode) -> DeletableGroupResult:
        return DeletableGroupResult(group_id=group_id, error_code=error)

    return services.groups.call(
        group_id,
        lambda shard, ticket, now_ms: shard.decide_delete_group(ticket, group_id, now_ms),
        refuse,
    )
