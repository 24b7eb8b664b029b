"""Frees many objects in steps: freeing a hundred thousand at once takes some 20 ms.

The last user of a message copies its long lists, drops the message, and then frees the copies' elements in steps. The
message's own lists are never changed: where somebody else still holds one, its elements simply stay alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import cache

from tierlog.broker.work.slices import Steps
from tierlog.log.producers.state import ProducerState
from tierlog.wire.schema import Struct, fields_of

FEW = 64
"""A list of at most so many elements is freed together with its owner."""
AT_ONCE = 16
"""Elements freed in one step."""
PRODUCERS_AT_ONCE = 1_000


def long_lists(message: Struct) -> Steps[list[list[object]]]:
    """Copies of all long lists of structs in a message, and of those within them."""
    found: list[list[object]] = []
    unread = [message]
    while unread:
        for values in _lists_of(unread.pop()):
            if len(values) > FEW:
                found.append(list(values))
            if _list_names(type(values[0])):
                for value in values:
                    if next(_lists_of(value), None):
                        unread.append(value)
                    yield
        yield
    return found


def free(lists: list[list[object]]) -> Steps[None]:
    """Empties the lists, outer ones first: an inner list's own copy keeps its elements alive until its turn."""
    for elements in lists:
        while elements:
            del elements[-AT_ONCE:]
            yield


def free_producers(state: ProducerState) -> None:
    """Frees what a log knew of its producers, once it has another state: some in each turn of the loop."""
    if state.forget_some(PRODUCERS_AT_ONCE):
        asyncio.get_running_loop().call_soon(free_producers, state)


def _lists_of(struct: Struct) -> Iterator[list[Struct]]:
    for name in _list_names(type(struct)):
        values = getattr(struct, name)
        if isinstance(values, list) and values and isinstance(values[0], Struct):
            yield values


@cache
def _list_names(cls: type[Struct]) -> tuple[str, ...]:
    return tuple(field.name for field in fields_of(cls) if field.element is not None)
