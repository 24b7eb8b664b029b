"""Tells the controller which log directories of this broker are cordoned (KIP-1066), at the start and whenever its configs
say something else. A broker all of whose directories are cordoned gets no new replicas.

Bound: one write under way; what changes meanwhile is in the next.
"""

from __future__ import annotations

import asyncio

import structlog

from tierlog.broker.registration import Registration
from tierlog.broker.replicas import Replicas
from tierlog.errors import StoreUnavailable
from tierlog.metadata.image import ImageDelta

RETRY_S = 1.0

logger = structlog.get_logger()


class Cordons:
    """One per broker. ``apply`` is subscribed behind that of ``replicas``."""

    def __init__(
        self, replicas: Replicas, registration: Registration, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._replicas = replicas
        self._registration = registration
        self._loop = loop
        self._told = cordoned_dirs(replicas)
        self._task: asyncio.Task[None] | None = None

    def apply(self, delta: ImageDelta) -> None:
        if any(change.resource_type == "broker" for change in delta.configs_changed):
            self.tell_if_changed()

    def tell_if_changed(self) -> None:
        """Also for what has changed before ``apply`` was subscribed."""
        if self._task is None and cordoned_dirs(self._replicas) != self._told:
            self._task = self._loop.create_task(self._tell(), name="cordons")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _tell(self) -> None:
        try:
            while (wanted := cordoned_dirs(self._replicas)) != self._told:
                try:
                    await self._registration.report_cordoned_dirs(wanted)
                    self._told = wanted
                except StoreUnavailable as error:
                    logger.warning(
                        "the controller could not be told of cordoned log directories", why=str(error)
                    )
                    await asyncio.sleep(RETRY_S)
        finally:
            self._task = None


def cordoned_dirs(replicas: Replicas) -> tuple[str, ...]:
    """Their uuids."""
    return tuple(d.directory_id for d in replicas.log_dirs if d.directory_id and replicas.is_cordoned(d))
