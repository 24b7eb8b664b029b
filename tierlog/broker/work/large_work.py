"""Keeps the garbage collector off the many objects of a large request.

Python's collector walks all old objects in one step when their number has grown by a quarter. A request of a hundred
thousand items triggers that, for 80 ms, only to find all of them in use; they are freed without it when the request is
answered, since they hold no cycles. So the oldest generation is not collected while such a request is in process.

These settings apply to the whole process.
"""

from __future__ import annotations

import gc
from typing import ClassVar

NEVER = 1 << 30


class LargeWork:
    """Suppresses full collections while an instance is alive: kept along with a large request and its answer."""

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
