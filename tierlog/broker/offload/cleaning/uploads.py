"""Aborts multipart uploads that nobody will finish, since they are billed and no listing shows them.

A broker that is killed in the middle of an upload leaves one behind. No upload of a segment takes a day, so those that were
begun earlier are aborted, whoever began them: the buckets are this cluster's. The broker that holds the controller lease
looks into all that are in use once in an hour. Providers' own lifecycle rules do the same for those who have set them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from tiering.errors import TieringError
from tiering.ledger.rows import Cause
from tiering.metering.attribution import attributed
from tiering.objects.port import LIST_LIMIT_MAX, ObjectStore
from tierlog.broker.offload.cleaning.sweeper import Budget
from tierlog.broker.offload.stores.topic_stores import TopicStores
from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of

logger = structlog.get_logger()

LOOK_S = 3_600.0
ABORT_AGE_MS = 86_400_000


class LeftUploads:
    """One per broker; ``run`` until cancelled. ``is_mine``: whether this broker holds the controller lease now."""

    def __init__(
        self, stores: TopicStores, budget: Budget, is_mine: Callable[[], bool], now_ms: Callable[[], int]
    ) -> None:
        self._stores = stores
        self._budget = budget
        self._is_mine = is_mine
        self._now_ms = now_ms
        self._warnings = RepeatedWarnings()

    async def run(self) -> None:
        """Runs for ever, once the bucket is known to be ours."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._is_mine():
                continue
            with attributed(Cause.SWEEP):
                for store in self._stores.in_use:
                    await self._look(store)

    async def _look(self, store: str) -> None:
        try:
            await self.abort_old(await self._stores.opened(store))
        except TieringError as error:
            event, kind = "cannot look for unfinished uploads: trying again later", kind_of(error)
            shown = self._stores.shown(store)
            self._warnings.say(
                logger.warning, event, (kind, store), kind=kind, object_store=shown, why=str(error)
            )

    async def abort_old(self, objects: ObjectStore) -> int:
        """Aborts all that are old enough; returns how many. Raises ``ObjectStoreError``."""
        count = 0
        while True:
            await self._budget.take()
            listed = await objects.list_uploads("")
            old = [each for each in listed if each.begun_ms + ABORT_AGE_MS <= self._now_ms()]
            for upload in old:
                await self._budget.take()
                await objects.abort_upload(upload)
            count += len(old)
            if len(listed) < LIST_LIMIT_MAX or len(old) < len(listed):
                break  # that was all; or young ones keep their places, and the next listing would be the same
        if count:
            logger.info("aborted unfinished uploads", count=count)
        return count
