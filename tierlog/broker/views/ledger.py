"""``GET /v1/ledger``: what this broker has counted and no object of the ledger tells yet.

The answer holds ``columns`` and ``pieces``, each with its ``rows`` as lists of values, and with the ``key`` that its object
has, or will have: who reads the bucket afterwards leaves that object out. The last piece is the open one, told as of now.
One answer is made at a time. 404 where no ledger is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tierlog.telemetry.http import JsonView

if TYPE_CHECKING:
    from tierlog.broker.offload.service import Tiering

PATH = "/v1/ledger"


def ledger_view(tiering: Callable[[], Tiering | None]) -> JsonView:
    """The view for the broker's HTTP server."""
    turn = asyncio.Lock()

    async def read(_parameters: Mapping[str, str]) -> bytes | None:
        service = tiering()
        if service is None or service.ledger is None:
            return None
        async with turn:
            return await service.ledger.unwritten()

    return JsonView(PATH, read)
