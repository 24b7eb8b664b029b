"""How long the event loop was busy with one thing, measured by a timer that is late.

A timer asks to be called every 10 ms; its lateness is the stall. So a stall is under-measured by at most one period,
and the watch costs about a hundred timer calls a second (below 0.1 % of a core).

The CPU time that the loop's thread used during a stall is its own work; the rest it waited for a core or for the disk.
"""

from __future__ import annotations

import asyncio
import time

from tierlog.telemetry.metrics import Registry

PERIOD_S = 0.010
BOUNDS_S = (0.001, 0.002, 0.005, 0.010, 0.020, 0.050, 0.100, 0.200, 0.500, 1.0, 5.0)
COMPUTED_BOUNDS_S = (0.005, 0.010, 0.015, 0.020, 0.030, 0.040, 0.050, 0.075, 0.100, 0.200, 0.500, 1.0, 5.0)


class LoopStallWatch:
    """``start`` it in the loop that it watches; ``stop`` cancels the timer."""

    def __init__(self, registry: Registry, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._histogram = registry.histogram(
            "tierlog_loop_stall_seconds", "Lateness of a periodic timer of the event loop.", BOUNDS_S
        ).labels()
        self._computed = registry.histogram(
            "tierlog_loop_computed_seconds",
            "The part of each stall of the event loop that its thread was computing.",
            COMPUTED_BOUNDS_S,
        ).labels()
        registry.value(
            "tierlog_loop_stall_max_seconds",
            "gauge",
            "The longest stall of the event loop since the start.",
            lambda: self.maximum_s,
        )
        registry.value(
            "tierlog_loop_computed_max_seconds",
            "gauge",
            "The longest part of a stall of the event loop, since the start, that its thread was computing.",
            lambda: self.computed_max_s,
        )
        self._computed_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    @property
    def computed_max_s(self) -> float:
        return self._computed.maximum

    @property
    def maximum_s(self) -> float:
        return self._histogram.maximum

    def start(self) -> None:
        assert self._timer is None
        self._loop = asyncio.get_running_loop()
        self._computed_s = time.thread_time()
        self._schedule(self._loop.time())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, now_s: float) -> None:
        assert self._loop is not None
        self._due_s = now_s + self._period_s
        self._timer = self._loop.call_at(self._due_s, self._tick)

    def _tick(self) -> None:
        assert self._loop is not None
        now_s = self._loop.time()
        late_s = max(0.0, now_s - self._due_s)
        computed_s = time.thread_time()
        self._computed.observe(min(late_s, computed_s - self._computed_s))
        self._computed_s = computed_s
        self._histogram.observe(late_s)
        self._schedule(now_s)
