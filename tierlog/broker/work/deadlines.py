"""Deadlines of requests that wait, for one timer of the loop: a wheel of short slots.

A timer handle for each request costs its making, its cancelling, and a place in the loop's heap until its time has come, for
nearly all of them are answered long before. Here a request is put into the slot of its deadline and taken out again, and the
timer waits for the earliest slot.

Rules: nobody is late before the deadline, and at most ``SLOT_S`` (and the loop's own delay) after it; who is told
is out of the wheel. Bound: one entry for each request that waits, and no slot without one.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeAlias

SLOT_S = 0.02


class Late(Protocol):
    """Something with a deadline."""

    def on_deadline(self) -> None:
        """Its time is over. It may add others."""


Slot: TypeAlias = int


class Deadlines:
    """One per loop."""

    __slots__ = ("_due_slot", "_loop", "_slots", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[Slot, dict[Late, None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        # The slot that the timer waits for; it may be empty by then.
        self._due_slot: Slot = 0

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def add(self, late: Late, at_s: float) -> Slot:
        """Tells ``late`` once the loop's clock has reached ``at_s``. Returns what ``discard`` wants."""
        number = int(at_s / SLOT_S) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            if self._timer is None or number < self._due_slot:
                self._arm(number)
        slot[late] = None
        return number

    def discard(self, late: Late, number: Slot) -> None:
        """Its deadline does not count any more; it may have been told."""
        slot = self._slots.get(number)
        if slot is not None:
            slot.pop(late, None)
            if not slot:
                del self._slots[number]

    def _arm(self, number: Slot) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_slot = number
        self._timer = self._loop.call_at(number * SLOT_S, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        # A timer may ring early by its clock's resolution.
        reached = max(int(self._loop.time() / SLOT_S), self._due_slot)
        for number in sorted(number for number in self._slots if number <= reached):
            for late in self._slots.pop(number, ()):
                late.on_deadline()
        if self._slots and self._timer is None:
            self._arm(min(self._slots))
