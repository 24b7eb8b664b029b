"""The one place where tiering starts tasks: each is kept alive until it has ended, and belongs to its starter.

The starter awaits or cancels it; an error after everybody has stopped waiting is ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")

# The loop itself keeps only weak references.
_alive: set[asyncio.Future[Any]] = set()


def begin(work: Awaitable[T]) -> asyncio.Future[T]:
    """Runs ``work`` as a task beside the caller."""
    task = asyncio.ensure_future(work)
    _alive.add(task)
    task.add_done_callback(_over)
    return task


def _over(task: asyncio.Future[Any]) -> None:
    _alive.discard(task)
    if not task.cancelled():
        task.exception()  # retrieved, so that asyncio does not warn of it
