"""Admin requests that name more than the controller takes on in one operation.

Kafka's controller writes 10,000 records for one request at most and refuses a larger one as a whole. Here the items that a
request names are counted, those that would change nothing too: so that none of them is looked at in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from tierlog.errors import ErrorCode

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Handler, Services
    from tierlog.broker.network.context import RequestContext
    from tierlog.broker.work.slices import Steps
    from tierlog.wire.schema import Message

MAX_ITEMS = 10_000
ERROR = ErrorCode.POLICY_VIOLATION
MESSAGE = "Unable to perform excessively large batch operation."


def bounded(
    handle: Handler, items: Callable[[Any], Iterable[int]], refuse: Callable[[Any], Message | Steps[Message]]
) -> Handler:
    """``handle`` for requests of at most ``MAX_ITEMS``. ``items(request)``: how many stand in each of its arrays;
    ``refuse(request)``: the answer that gives ``ERROR`` and ``MESSAGE`` for each."""

    def checked(services: Services, ctx: RequestContext, request: Any) -> Any:
        count = 0
        for more in items(request):
            count += more
            if count > MAX_ITEMS:
                return refuse(request)
        return handle(services, ctx, request)

    return checked


class Named(Protocol):
    name: str


def distinct_names(topics: Iterable[Named]) -> Steps[list[str]]:
    """A topic that is named twice is answered once."""
    names: dict[str, None] = {}
    for topic in topics:
        names[topic.name] = None
        yield
    return list(names)
