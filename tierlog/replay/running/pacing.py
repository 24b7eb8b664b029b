"""``--speed``: records come as far apart as they once did, so many times faster."""

from __future__ import annotations

import asyncio
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


class Pacing:
    """``speed``: seconds of records in one second; 0: no waiting. A chunk waits for the time of its first record."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._first_ms: int | None = None
        self._begun_s = 0.0

    async def wait(self, batch: pa.RecordBatch | None) -> None:
        if not self._speed or batch is None or not batch.num_rows:
            return
        loop = asyncio.get_running_loop()
        first: Any = pc.min(batch["timestamp"].cast(pa.int64())).as_py()
        if first is None:
            return
        if self._first_ms is None:
            self._first_ms, self._begun_s = first, loop.time()
        due_s = self._begun_s + (first - self._first_ms) / 1_000 / self._speed
        if due_s > loop.time():
            await asyncio.sleep(due_s - loop.time())
