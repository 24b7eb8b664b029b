"""ListGroups (key 16), versions 0-5: the groups that this broker coordinates.

Behaviour: COORDINATOR_LOAD_IN_PROGRESS while any shard loads, since the list would be incomplete.

Versions: from 4 on a filter by state (KIP-518), from 5 on by type (KIP-848; only "classic" exists here).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.groups.group_calls import combine_in_steps
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.coordination.classic_group import GroupState
from tierlog.coordination.describe import GROUP_TYPE
from tierlog.errors import ErrorCode
from tierlog.wire.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


STATES = frozenset(state.value.lower() for state in GroupState)
TYPES = frozenset([GROUP_TYPE])


def handle(
    services: Services, ctx: RequestContext, request: ListGroupsRequest
) -> Steps[ListGroupsResponse | Awaitable[ListGroupsResponse]]:
    states = yield from distinct(request.states_filter, STATES)
    types = yield from distinct(request.types_filter, TYPES)
    answers = (
        led.read(lambda shard: shard.list_groups(states, types), lambda error: error)
        for led in services.groups.led()
    )
    return (yield from combine_in_steps(answers, build))


def distinct(names: list[str], known: frozenset[str]) -> Steps[list[str]]:
    """The filter in lower case, each of the ``known`` names once. An unknown name is kept if it comes first: a filter of
    unknown names must match nothing, while an empty filter matches everything."""
    found: dict[str, None] = {}
    for name in names:
        lower = name.lower()
        if lower in known or not found:
            found[lower] = None
        yield
    return list(found)


def build(answers: list[list[ListedGroup] | ErrorCode]) -> ListGroupsResponse:
    response = ListGroupsResponse()
    for answer in answers:
        if isinstance(answer, list):
            response.groups.extend(answer)
        elif answer is not ErrorCode.NOT_COORDINATOR:
            return ListGroupsResponse(error_code=answer)
    return response
