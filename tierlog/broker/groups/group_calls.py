"""Helpers that the group handlers share: the caller of a decision, and answers combined from several shards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, cast

from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.coordination.decision import Caller

PIECE = 100  # partitions whose offsets are changed in one step

T = TypeVar("T")
R = TypeVar("R")


def caller_of(ctx: RequestContext, fresh_id: str = "") -> Caller:
    """The caller of a request; its host is written as in Kafka's member descriptions."""
    return Caller(ctx.api_version, ctx.client_id or "", f"/{ctx.peer_host}", fresh_id)


class OfTopic(Protocol):
    """The partitions of one topic in a request."""

    partitions: list[Any]


TopicT = TypeVar("TopicT", bound=OfTopic)


def in_pieces(
    topics: Sequence[TopicT], part_of: Callable[[TopicT, list[Any]], TopicT]
) -> Iterator[list[TopicT]]:
    """Splits the topics into lists of at most ``PIECE`` partitions (a topic without any counts as one), for work in which
    each partition stands alone. ``part_of`` makes a copy of a topic with some of its partitions."""
    piece: list[TopicT] = []
    room = PIECE
    for topic in topics:
        count = len(topic.partitions)
        for start in range(0, max(count, 1), PIECE):
            rows = topic.partitions[start : start + PIECE]
            if max(len(rows), 1) > room:
                yield piece
                piece, room = [], PIECE
            piece.append(topic if len(rows) == count else part_of(topic, rows))
            room -= max(len(rows), 1)
    if piece:
        yield piece


def combine_in_steps(
    answers: Iterable[T | Awaitable[T]], build: Callable[[list[T]], R]
) -> Steps[R | Awaitable[R]]:
    """As ``combine``, but each answer is taken from the iterable in a step of its own."""
    asked: list[T | Awaitable[T]] = []
    is_here = True
    for answer in answers:
        asked.append(answer)
        is_here = is_here and not isinstance(answer, Awaitable)
        yield
    return build(cast("list[T]", asked)) if is_here else _combine_later(asked, build)


def combine(answers: Sequence[T | Awaitable[T]], build: Callable[[list[T]], R]) -> R | Awaitable[R]:
    """Returns ``build`` of all answers, in order: at once if all are there, else an awaitable of it."""
    if any(isinstance(answer, Awaitable) for answer in answers):
        return _combine_later(answers, build)
    return build(cast("list[T]", answers))


async def _combine_later(answers: Sequence[T | Awaitable[T]], build: Callable[[list[T]], R]) -> R:
    # All answers are under way already, so awaiting them in turn is no slower.
    return build([await answer if isinstance(answer, Awaitable) else answer for answer in answers])
