"""The two clocks: wall-clock time for records, files and log lines, and the loop's monotonic time for durations."""

from __future__ import annotations

import asyncio
import time


def wall_clock_ms() -> int:
    return int(time.time() * 1000)


def monotonic_ms(loop: asyncio.AbstractEventLoop) -> int:
    """The loop's clock, which never goes back."""
    return int(loop.time() * 1000)
