"""Keeps the collector off the many objects of a large request.

Python's collector goes over all old objects in one step when their number has grown by a quarter. A request of a hundred
thousand items makes it do so, 80 ms long, only to find that all of them are in use; they go by themselves when the request
is answered, since they hold no cycles. So while such a request is in hand only the young are collected.

What is done here is done to the process.
"""

from __future__ import annotations

import gc
from typing import ClassVar

NEVER = 1 << 30


class LargeWork:
    """Alive as long as a large request or its answer is: whoever has them in hand keeps it."""

    __slots__ = ()

    _alive_count: ClassVar[int] = 0
    _threshold: ClassVar[int] = 0

    def __init__(self) -> None:
        cls = LargeWork
        if not cls._alive_count:
            young, middle, cls._threshold = gc.get_threshold()
            gc.set_threshold(young, middle, NEVER)
        cls._alive_count += 1

    def __del__(self) -> None:
        cls = LargeWork
        cls._alive_count -= 1
        if not cls._alive_count:
            young, middle, _ = gc.get_threshold()
            gc.set_threshold(young, middle, cls._threshold)
