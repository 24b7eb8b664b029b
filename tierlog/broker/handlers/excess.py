"""Refuses admin requests that name more items than the controller accepts in one operation.

Kafka's controller writes 10,000 records for one request at most and refuses a larger one as a whole. Here the items that a
request names are counted before any is looked at, so items that would change nothing count too.
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
    """Wraps ``handle`` to refuse requests of more than ``MAX_ITEMS`` items. ``items(request)``: the length of each of its
    arrays; ``refuse(request)``: the answer with ``ERROR`` and ``MESSAGE`` for each item."""

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
    """The names of the topics, each once: a topic that is named twice is answered once."""
    names: dict[str, None] = {}
    for topic in topics:
        names[topic.name] = None
        yield
    return list(names)
