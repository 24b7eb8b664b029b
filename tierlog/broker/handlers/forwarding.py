"""Forwards admin requests to the controller, wherever it is: a wrapper around their handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any

from tierlog.broker.cluster.controller_link import CLIENT_ID, RETRY_S, Interrupted, NotSent
from tierlog.broker.network.context import RequestContext
from tierlog.broker.network.places import WaitingReply
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.errors import ErrorCode
from tierlog.wire.schema import Message

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Handler, Services


def by_the_controller(handle: Handler) -> Handler:
    """Wraps ``handle`` to run on the broker that is the controller."""

    def carried(services: Services, ctx: RequestContext, request: Any) -> Any:
        if ctx.client_id == CLIENT_ID or _is_at_home(services):
            return handle(services, ctx, request)
        return _carry(services, ctx, request, handle)

    return carried


def _is_at_home(services: Services) -> bool:
    return services.image.controller_id == services.broker_id


async def _carry(services: Services, ctx: RequestContext, request: Any, handle: Handler) -> Message | None:
    timeout_ms = getattr(request, "timeout_ms", None)
    if timeout_ms is None or timeout_ms < 0:
        timeout_ms = services.config.request_timeout_ms
    deadline_s = services.loop.time() + timeout_ms / 1000
    while (left_s := deadline_s - services.loop.time()) > 0 and not _is_at_home(services):
        try:
            answer = await services.controller_link.ask(request, ctx.api_version, left_s)
        except Interrupted:
            break
        except NotSent:
            answer = None
        if answer is not None and not says_not_controller(answer):
            return answer
        await asyncio.sleep(RETRY_S)
    found = handle(services, ctx, request)
    assert not isinstance(found, DelayedResponse | WaitingReply | Generator), (
        "none that is carried answers so"
    )
    return await found if isinstance(found, Awaitable) else found


def says_not_controller(answer: Message) -> bool:
    """Whether an answer, or an item of it, has the error NOT_CONTROLLER."""
    items = [answer]
    for name in ("topics", "responses", "results"):
        items += getattr(answer, name, None) or ()
    return any(getattr(item, "error_code", 0) == ErrorCode.NOT_CONTROLLER for item in items)
