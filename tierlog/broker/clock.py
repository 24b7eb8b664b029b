"""The two clocks: the world's, which stands in records, files and log lines, and the loop's, for how long something took."""

from __future__ import annotations

import asyncio
import time


def wall_clock_ms() -> int:
    return int(time.time() * 1000)


def monotonic_ms(loop: asyncio.AbstractEventLoop) -> int:
    """The loop's clock, which never goes back."""
    return int(loop.time() * 1000)
