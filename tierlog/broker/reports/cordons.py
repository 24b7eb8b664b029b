"""Tells the controller which log directories of this broker are cordoned (KIP-1066), at the start and whenever the configs
change that. A broker all of whose directories are cordoned gets no new replicas.

Bound: one write under way; changes meanwhile are in the next.
"""

from __future__ import annotations

from tierlog.broker.cluster.registration import Registration
from tierlog.broker.replicas.hosted import Replicas
from tierlog.broker.work.background import Background, Kept
from tierlog.metadata.image import ImageDelta


class Cordons:
    """One per broker. ``apply`` is subscribed after that of ``replicas``."""

    def __init__(self, replicas: Replicas, registration: Registration, background: Background) -> None:
        self._replicas = replicas
        self._registration = registration
        self._background = background
        self._told = cordoned_dirs(replicas)
        self._task: Kept | None = None

    def apply(self, delta: ImageDelta) -> None:
        if any(change.resource_type == "broker" for change in delta.configs_changed):
            self.tell_if_changed()

    def tell_if_changed(self) -> None:
        """Reports a change, if any; also to be called once for changes before ``apply`` was subscribed."""
        if (self._task is None or self._task.is_over) and cordoned_dirs(self._replicas) != self._told:
            self._task = self._background.job("cordons", self._tell)

    async def close(self) -> None:
        if self._task is not None:
            await self._task.stop()

    async def _tell(self) -> None:
        while (wanted := cordoned_dirs(self._replicas)) != self._told:
            await self._registration.report_cordoned_dirs(wanted)
            self._told = wanted


def cordoned_dirs(replicas: Replicas) -> tuple[str, ...]:
    """The uuids of the cordoned log directories."""
    return tuple(d.directory_id for d in replicas.log_dirs if d.directory_id and replicas.is_cordoned(d))
