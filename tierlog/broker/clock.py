"""The clock of the world, which is told in records, files and log lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def wall_clock_ms() -> int:
    return int(time.time() * 1000)
