"""A long array of an answer that never exists as a whole: the encoder makes each element when it reaches it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, cast, overload

T = TypeVar("T")


# The weight of an element that takes so long to make that others have a turn after each.
HEAVY = 1000


def lazily(count: int, make: Callable[[], Iterable[T]], weight: int = 1) -> list[T]:
    """``count`` elements; every call of ``make()`` produces them anew. Read like a list, never changed. ``weight``: how many
    ordinary elements one of them counts for when a long answer is encoded in steps."""
    return cast("list[T]", Lazy(count, make, weight))


class Lazy(Sequence[T]):
    """What ``lazily`` makes."""

    __slots__ = ("_count", "_make", "weight")

    def __init__(self, count: int, make: Callable[[], Iterable[T]], weight: int) -> None:
        self._count = count
        self._make = make
        self.weight = weight

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        return iter(self._make())

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return list(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))
