"""Reads a plan in no order: several stretches of it beside each other, so that a GET that is late holds up only its own.

Within a stretch, records come in order of their offsets. As many are read at a time as the ``Reading`` is made for, which
``LANES`` proposes: they share its GETs, and each has at most one chunk ready.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from tiering.tasks import begin
from tierlog.replay.plan import Plan
from tierlog.replay.reading import Chunk, Reading

LANES = 4
STRETCHES_PER_LANE = 4
"""The last ones to end are then short."""


def lanes_of(is_ordered: bool) -> int:
    """``beside`` of the ``Reading`` for ``all_chunks``."""
    return 1 if is_ordered else LANES


def all_chunks(reading: Reading, plan: Plan) -> AsyncGenerator[Chunk]:
    """In order of the plan, or as they come where the reading is made for several stretches. Raises UserError."""
    return reading.chunks(plan.reads()) if reading.beside == 1 else _as_they_come(reading, plan)


async def _as_they_come(reading: Reading, plan: Plan) -> AsyncGenerator[Chunk]:
    """All chunks of the plan. Raises UserError; what has come until then is right and whole."""
    waiting = deque(plan.stretches(reading.beside * STRETCHES_PER_LANE))
    ready: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue(1)

    async def lane() -> None:
        """Ends with None, or with its error."""
        try:
            while waiting:
                async with aclosing(reading.chunks(waiting.popleft())) as chunks:
                    async for chunk in chunks:
                        await ready.put(chunk)
        except Exception as error:
            await ready.put(error)
        else:
            await ready.put(None)

    lanes = [begin(lane()) for _ in range(min(reading.beside, len(waiting)))]
    try:
        running = len(lanes)
        while running:
            found = await ready.get()
            if found is None:
                running -= 1
            elif isinstance(found, Exception):
                raise found
            else:
                yield found
    finally:
        for each in lanes:
            each.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
