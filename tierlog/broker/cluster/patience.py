"""Waits for a metadata store that does not answer while the broker starts: an operator who repairs the store need not start
the broker again, and the log says once a minute what the broker waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog

from tierlog.errors import StoreUnavailable

RETRY_S = 0.2
TELL_S = 60.0

T = TypeVar("T")

logger = structlog.get_logger()


async def patiently(call: Callable[[], Coroutine[Any, Any, T]], what_for: str) -> T:
    """The first answer of ``call``, which must be safe to repeat."""
    loop = asyncio.get_running_loop()
    tell_at_s = loop.time()
    while True:
        try:
            return await call()
        except StoreUnavailable as error:
            if loop.time() >= tell_at_s:
                tell_at_s = loop.time() + TELL_S
                logger.warning(
                    "the metadata store does not answer: waiting for it", why=str(error), purpose=what_for
                )
            await asyncio.sleep(RETRY_S)
