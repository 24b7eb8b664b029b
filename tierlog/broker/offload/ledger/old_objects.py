"""Lists the ledger once a day, which tells how large it is (``tiering.metering.meta_sizes``), and deletes the objects whose
time is over (``tierlog.ledger.retention.days``). One broker of the cluster does, the controller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from tiering.errors import TieringError
from tiering.ledger.names import ledger_prefix, parse_name
from tiering.ledger.rows import Cause
from tiering.metering.attribution import attributed
from tiering.objects.port import ObjectStore
from tierlog.broker.offload.cleaning.deletes import pages_of
from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of
from tierlog.config.broker import BrokerConfig

logger = structlog.get_logger()

TICK_S = 1.0
DAY_MS = 86_400_000


class OldObjects:
    """``run`` for ever. ``now_ms``: the time that retention goes by."""

    def __init__(
        self, cluster_id: str, objects: ObjectStore, is_mine: Callable[[], bool], now_ms: Callable[[], int]
    ) -> None:
        self._cluster_id = cluster_id
        self._objects = objects
        self._is_mine = is_mine
        self._now_ms = now_ms
        self._keep_days = -1
        self._next_ms = 0
        self._warnings = RepeatedWarnings()

    def configure(self, config: BrokerConfig) -> None:
        """Applies what may change while the broker runs; a new time counts from the next look, which is soon."""
        if config.tierlog_ledger_retention_days != self._keep_days:
            self._keep_days, self._next_ms = config.tierlog_ledger_retention_days, 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now_ms = self._now_ms()
            if not self._is_mine():
                self._next_ms = 0
                continue
            if now_ms < self._next_ms:
                continue
            self._next_ms = now_ms + DAY_MS
            keep_days = self._keep_days
            try:
                with attributed(Cause.LEDGER):
                    await self._look(now_ms - keep_days * DAY_MS if keep_days >= 0 else 0)
            except TieringError as error:
                event, kind = "cannot delete old objects of the ledger", kind_of(error)
                self._warnings.say(logger.warning, event, kind, kind=kind, why=str(error))

    async def _look(self, before_ms: int) -> None:
        """Deletes what is of hours that began before ``before_ms``."""
        async for page in pages_of(self._objects, ledger_prefix(self._cluster_id)):
            names = {info.key: parse_name(self._cluster_id, info.key) for info in page}
            old = [key for key, name in names.items() if name is not None and name.hour_ms < before_ms]
            refused = await self._objects.delete(old) if old else {}
            if refused:
                raise next(iter(refused.values()))
