"""Producer ids from blocks that are reserved in the metadata store (KIP-730): one metadata commit per thousand ids."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tierlog.errors import ErrorCode, StoreUnavailable

if TYPE_CHECKING:
    from tierlog.broker.cluster.controller_client import ControllerClient
    from tierlog.broker.work.background import Background


class ProducerIds:
    """Ids of one broker. Invariant: an id is given out once in the life of the cluster."""

    def __init__(self, admin: ControllerClient, background: Background) -> None:
        self._admin = admin
        self._background = background
        self._next = 0
        self._end = 0
        self._allocation: asyncio.Task[ErrorCode] | None = None

    def take(self) -> int | None:
        """The next id of the reserved block; None where the block is used up."""
        if self._next >= self._end:
            return None
        self._next += 1
        return self._next - 1

    async def allocate(self) -> int | ErrorCode:
        """The next id; reserves a new block where needed. Requests that come meanwhile share the reservation."""
        while (taken := self.take()) is None:
            if self._allocation is None:
                self._allocation = self._background.ask("producer ids", self._reserve())
            error = await asyncio.shield(self._allocation)
            if error:
                return error
        return taken

    async def _reserve(self) -> ErrorCode:
        try:
            self._next, self._end = await self._admin.allocate_producer_ids()
        except StoreUnavailable:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        finally:
            self._allocation = None
        return ErrorCode.NONE
