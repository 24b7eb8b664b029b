"""Follows up the deletion of a topic: the groups here forget it, and the controller learns that the replicas are gone.

The tombstone of a topic stays in the metadata store until every broker in its ``pending`` list has confirmed. A broker that
stops before that confirms at its next start, which looks at all tombstones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from tierlog.broker.work.background import Background, Kept
from tierlog.errors import TierlogError

if TYPE_CHECKING:
    from tierlog.broker.cluster.controller_client import ControllerClient
    from tierlog.metadata.image import ImageDelta, MetadataImage

RETRY_S = 1.0

logger = structlog.get_logger()


class TopicDeletion:
    """Follows the image; ``apply`` is subscribed after the replicas have dropped what is deleted."""

    def __init__(
        self,
        broker_id: int,
        image: Callable[[], MetadataImage],
        forget: Callable[[frozenset[str]], None],
        admin: ControllerClient,
        background: Background,
        dropped: Callable[[], Awaitable[None]],
    ) -> None:
        """``forget(topics)``: the groups forget these topics. ``dropped()`` returns once no deleted log lies under its name
        any more."""
        self._dropped = dropped
        self._broker_id = broker_id
        self._image = image
        self._forget = forget
        self._admin = admin
        self._background = background
        self._task: Kept | None = None

    def apply(self, delta: ImageDelta) -> None:
        if delta.topics_deleted:
            self._forget(frozenset(deleted.name for deleted in delta.topics_deleted))
        if delta.tombstones_changed:
            self.confirm_soon()

    def confirm_soon(self) -> None:
        """Confirms every tombstone that waits for this broker; one task at a time."""
        if self._task is None or self._task.is_over:
            self._task = self._background.job("topic deletion", self._confirm)

    async def _confirm(self) -> None:
        while waiting := self._waiting():
            await self._dropped()
            for topic_id in waiting:
                try:
                    await self._admin.confirm_topic_dropped(topic_id, self._broker_id)
                except TierlogError as error:
                    logger.warning("cannot confirm a deleted topic", why=str(error))
                    await asyncio.sleep(RETRY_S)

    def _waiting(self) -> list[bytes]:
        return [
            topic.topic_id
            for topic in self._image().deleting_topics()
            if topic.record is not None and self._broker_id in topic.record.pending
        ]

    async def close(self) -> None:
        if self._task is not None:
            await self._task.stop()
