"""A timer whose time is moved back often and forth seldom, as of a wait that ends before its deadline nearly always.

A later time costs nothing: the loop's timer stays where it is, and is set anew for what is left when it comes too early. It
is at most ``LONGEST_S``, since it keeps whoever has waited alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

NEVER_S = float("inf")
LONGEST_S = 1.0


class LazyTimer:
    """Calls at ``due_s``, which may be set freely but for ``set`` where it becomes earlier."""

    __slots__ = ("_call", "_handle", "_handle_s", "_loop", "due_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop = loop
        self._call = call
        self._handle: asyncio.TimerHandle | None = None
        # For when the loop's timer is set.
        self._handle_s = NEVER_S
        self.due_s = NEVER_S

    def set(self, due_s: float) -> None:
        self.due_s = due_s
        if due_s < self._handle_s:
            if self._handle is not None:
                self._handle.cancel()
            self._handle_s = min(due_s, self._loop.time() + LONGEST_S)
            self._handle = self._loop.call_at(self._handle_s, self._on_time)

    def _on_time(self) -> None:
        self._handle, self._handle_s = None, NEVER_S
        due_s = self.due_s
        if due_s <= self._loop.time():
            self.due_s = NEVER_S
            self._call()
        elif due_s < NEVER_S:
            self.set(due_s)
