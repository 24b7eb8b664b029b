"""What the group handlers share: the caller of a decision, and answers put together from several shards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tierlog.broker.context import RequestContext
from tierlog.coordination.decision import Caller

T = TypeVar("T")
R = TypeVar("R")


def caller_of(ctx: RequestContext, fresh_id: str = "") -> Caller:
    """The host is written as Kafka writes it in member descriptions."""
    return Caller(ctx.api_version, ctx.client_id or "", f"/{ctx.peer_host}", fresh_id)


def combine(answers: Sequence[T | Awaitable[T]], build: Callable[[list[T]], R]) -> R | Awaitable[R]:
    """``build`` of all answers in order: now if all are here, else when the last has come."""
    here = [answer for answer in answers if not isinstance(answer, Awaitable)]
    if len(here) == len(answers):
        return build(here)
    return _combine_later(answers, build)


async def _combine_later(answers: Sequence[T | Awaitable[T]], build: Callable[[list[T]], R]) -> R:
    waiting = [answer for answer in answers if isinstance(answer, Awaitable)]
    arrived = iter(await asyncio.gather(*waiting))
    return build([next(arrived) if isinstance(answer, Awaitable) else answer for answer in answers])
