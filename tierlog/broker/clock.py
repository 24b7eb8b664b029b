"""The clocks: wall-clock time for records, files and log lines; the loop's monotonic time for durations; and wall-clock time
that is believed, for all that removes data by its age."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

JUMP_MS = 3_600_000
HOLD_MS = 24 * 3_600_000

logger = structlog.get_logger()


def wall_clock_ms() -> int:
    return int(time.time() * 1000)


def monotonic_ms(loop: asyncio.AbstractEventLoop) -> int:
    """The loop's clock, which never goes back."""
    return int(loop.time() * 1000)


def uptime_ms() -> int:
    """Since the machine started, sleep included, where the system tells that."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


class BelievedClock:
    """Wall-clock time that does not follow a jump ahead before ``HOLD_MS`` are over.

    A clock that is set years ahead by mistake would expire everything at once, and what is removed is gone when it is set
    back. So a clock that goes ahead by more than ``JUMP_MS`` beyond the time that has passed is told, and time goes on as
    before; if it still says so ``HOLD_MS`` later, it is right. A clock that goes back is believed at once: nothing expires
    sooner by that. What the clock said before this process started is not known here.
    """

    def __init__(
        self, wall_ms: Callable[[], int] = wall_clock_ms, passed_ms: Callable[[], int] = uptime_ms
    ) -> None:
        self._wall_ms = wall_ms
        self._passed_ms = passed_ms
        self._believed_ms = wall_ms()
        self._read_at_ms = passed_ms()
        self._doubted_at_ms: int | None = None

    def now_ms(self) -> int:
        """Never more than ``JUMP_MS`` and the time that has passed beyond the last answer, but once after a hold."""
        wall_ms, at_ms = self._wall_ms(), self._passed_ms()
        expected_ms = self._believed_ms + at_ms - self._read_at_ms
        if wall_ms - expected_ms <= JUMP_MS:
            self._doubted_at_ms, believed_ms = None, wall_ms
        elif self._doubted_at_ms is None:
            self._doubted_at_ms, believed_ms = at_ms, expected_ms
            logger.error(
                "the clock jumped ahead: retention goes on with the time before; set the clock back, or wait",
                days_ahead=round((wall_ms - expected_ms) / 86_400_000, 1),
                believed_in_hours=HOLD_MS // 3_600_000,
            )
        elif at_ms - self._doubted_at_ms >= HOLD_MS:
            self._doubted_at_ms, believed_ms = None, wall_ms
            logger.warning("the clock stays ahead and is believed from now on: retention follows it")
        else:
            believed_ms = expected_ms
        self._believed_ms, self._read_at_ms = believed_ms, at_ms
        return believed_ms
