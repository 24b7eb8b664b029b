"""An admin request on its way from a handler to the controller's task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from tierlog.errors import ErrorCode
from tierlog.metadata.transactions import Txn

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Result_co = TypeVar("Result_co", covariant=True)


class Decision(Protocol[Result_co]):
    """The result of a ``decide_*`` function: an answer, and the transactions that make it true, in order."""

    @property
    def result(self) -> Result_co: ...

    @property
    def txns(self) -> tuple[Txn, ...]: ...


class CallRefused(Exception):
    """The call was not carried out at all; ``error`` is the answer for each of its items."""

    def __init__(self, error: ErrorCode) -> None:
        super().__init__(error.name)
        self.error = error


@dataclass(slots=True)
class Call(Generic[ItemT, ResultT]):
    """One admin request. ``decide`` answers for some of ``items``; ``item_key`` and ``result_key`` match
    answers to items. ``shows(result)``: whether the image shows that the result came true (asked when an
    outcome is unknown). ``give_up(result)``: the answer after too many attempts. ``reconciles``: answered
    only after a run of the reconciler."""

    items: Sequence[ItemT]
    decide: Callable[[Sequence[ItemT]], Iterable[Decision[ResultT]]]
    item_key: Callable[[ItemT], Hashable]
    result_key: Callable[[ResultT], Hashable]
    shows: Callable[[ResultT], bool]
    give_up: Callable[[ResultT], ResultT]
    reconciles: bool = False
    answer: asyncio.Future[list[ResultT]] = field(default_factory=asyncio.Future)


def deciding_only(call: Call[ItemT, ResultT]) -> Call[ItemT, ResultT]:
    """The same request, for ``validate_only``: whoever answers it, and whenever, nothing is changed."""

    def decide(items: Sequence[ItemT]) -> Iterator[Decision[ResultT]]:
        return (Decided(decision.result) for decision in call.decide(items))

    return replace(call, decide=decide, reconciles=False, answer=asyncio.Future())


@dataclass(frozen=True, slots=True)
class Decided(Generic[ResultT]):
    """A decision that takes no transaction."""

    result: ResultT
    txns: tuple[Txn, ...] = ()
