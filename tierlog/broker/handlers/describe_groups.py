"""DescribeGroups (key 15), versions 0-6: state, protocol and members of groups.

Behaviour: only a Stable group is shown with member metadata and protocol.

Versions: from 3 on the answer has the operations that the caller may do; an unknown group is shown as Dead up to 5, and is
GROUP_ID_NOT_FOUND from 6 on (KIP-1043).
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING

from tierlog.broker.groups.group_calls import combine_in_steps
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.errors import ErrorCode
from tierlog.wire.messages.describe_groups import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

# The operations that an unrestricted principal may do on a group; the bits are Kafka's AclOperation codes.
GROUP_OPERATIONS = 3400


def handle(
    services: Services, ctx: RequestContext, request: DescribeGroupsRequest
) -> Steps[DescribeGroupsResponse | Awaitable[DescribeGroupsResponse]]:
    known: dict[str, DescribedGroup | Awaitable[DescribedGroup]] = {}

    def answers() -> Iterator[DescribedGroup | Awaitable[DescribedGroup]]:
        # A group that is named twice is described once: it may be large.
        for group_id in request.groups:
            if group_id not in known:
                known[group_id] = describe(services, group_id, ctx.api_version)
            yield known[group_id]

    def build(groups: list[DescribedGroup]) -> DescribeGroupsResponse:
        if request.include_authorized_operations:
            for group in groups:
                if group.error_code == ErrorCode.NONE:
                    group.authorized_operations = GROUP_OPERATIONS
        return DescribeGroupsResponse(groups=groups)

    return combine_in_steps(answers(), build)


def describe(
    services: Services, group_id: str, api_version: int
) -> DescribedGroup | Awaitable[DescribedGroup]:
    def refuse(error: ErrorCode) -> DescribedGroup:
        return DescribedGroup(group_id=group_id, error_code=error)

    return services.groups.read(group_id, lambda shard: shard.describe_group(group_id, api_version), refuse)
