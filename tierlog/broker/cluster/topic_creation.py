"""Topics that are created without an admin request: automatic ones and the coordinators' own.

Concurrent creations of one name share one request to the controller.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tierlog.broker.work.slices import in_slices
from tierlog.errors import ErrorCode
from tierlog.metadata.control.topics import NewTopic, topic_name_problem
from tierlog.metadata.internal_topics import INTERNAL_TOPICS, OFFSETS_TOPIC

if TYPE_CHECKING:
    from tierlog.broker.cluster.controller_client import ControllerClient
    from tierlog.broker.cluster.controller_link import ControllerLink
    from tierlog.broker.cluster.metadata_feed import MetadataFeed
    from tierlog.broker.work.background import Background

MAX_TOPICS_AT_ONCE = 100
# Of all requests together; beyond it a client is told that the topic is unknown, and asks again.
MAX_UNDER_WAY = 1000
# How long a controller is looked for: one that died is replaced within its lease.
TIMEOUT_S = 15.0
RETRY_S = 0.1


class TopicCreation:
    """Creates missing topics through the controller."""

    def __init__(
        self, feed: MetadataFeed, admin: ControllerClient, link: ControllerLink, background: Background
    ) -> None:
        self._background = background
        self._feed = feed
        self._admin = admin
        self._link = link
        self._under_way: dict[str, asyncio.Task[ErrorCode]] = {}

    def refusal(self, name: str) -> ErrorCode:
        """The error for a topic that does not exist."""
        if topic_name_problem(name) is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return ErrorCode.INVALID_TOPIC_EXCEPTION

    async def create_missing(self, names: list[str]) -> None:
        """Creates those of ``names`` that may be created, with the broker's defaults. Of the coordinators' internal topics
        that is only ``__consumer_offsets``: there is no coordinator for the others."""
        room = max(0, min(MAX_TOPICS_AT_ONCE, MAX_UNDER_WAY - len(self._under_way)))
        wanted: dict[str, None] = {}
        async for name in in_slices(names):
            if len(wanted) == room:
                break
            may_be = name == OFFSETS_TOPIC or name not in INTERNAL_TOPICS
            if may_be and name not in wanted and topic_name_problem(name) is None:
                wanted[name] = None
        tasks = [self._start(name) for name in wanted]
        await asyncio.gather(*map(asyncio.shield, tasks))

    async def ensure_offsets_topic(self) -> ErrorCode:
        """Makes sure that ``__consumer_offsets`` exists; COORDINATOR_NOT_AVAILABLE while it cannot be made."""
        if self._feed.image.topic(OFFSETS_TOPIC) is not None:
            return ErrorCode.NONE
        error = await asyncio.shield(self._start(OFFSETS_TOPIC))
        return ErrorCode.COORDINATOR_NOT_AVAILABLE if error else ErrorCode.NONE

    def _start(self, name: str) -> asyncio.Task[ErrorCode]:
        task = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = self._background.ask(f"create {name}", self._create(name))
            task.add_done_callback(lambda _: self._under_way.pop(name, None))
        return task

    async def _create(self, name: str) -> ErrorCode:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + TIMEOUT_S
        while True:
            if self._link.endpoint is None:
                error = (await self._admin.create_topics([NewTopic(name)]))[0].error
            else:
                error = await self._link.create_topic(name, TIMEOUT_S)
            if error is not ErrorCode.NOT_CONTROLLER or loop.time() >= deadline_s:
                return ErrorCode.NONE if error is ErrorCode.TOPIC_ALREADY_EXISTS else error
            await asyncio.sleep(RETRY_S)
