"""Work in steps: a generator that yields where it may be paused, or left, and returns what it comes to.

Who runs it decides where: at once (``finished``), or in a thread, a slice at a time.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


def finished(steps: Generator[None, None, T]) -> T:
    """All of it at once."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        value: T = end.value
        return value
