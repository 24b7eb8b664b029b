"""Work in steps: a generator that yields where it may be paused or abandoned, and returns its result.

The caller decides where it runs: at once (``finished``), or in a thread, a slice at a time.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


def finished(steps: Generator[None, None, T]) -> T:
    """Run all steps at once."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        value: T = end.value
        return value
