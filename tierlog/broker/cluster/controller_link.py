"""Admin requests of clients and of this broker itself, carried to the broker that is the controller.

Rules:

* a request that only the controller may carry out is forwarded to its Kafka listener, in the version that the client spoke,
  and the answer is passed on: a client need not know the controller;
* a forwarded request is not forwarded again (its client id shows it): two brokers that disagree about the controller would
  send it to and fro;
* NOT_CONTROLLER means that nothing was done, so the request is tried again, here or at the controller of that time, until
  its own timeout; when the connection breaks after the request was sent, the client gets NOT_CONTROLLER and has to look for
  itself;
* an answer leaves after this broker's image has caught up with the store, so that the changes are visible here; it waits
  ``CATCH_UP_S`` for that at most, and not at all while the store is away.

Bound: one connection per request under way, at most ``MAX_UNDER_WAY``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from tierlog.broker.network.peer_client import PeerClient
from tierlog.broker.network.peer_connection import PeerUnavailable
from tierlog.errors import ErrorCode, MalformedMessage, StoreUnavailable
from tierlog.metadata import keys
from tierlog.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from tierlog.wire.registry import APIS
from tierlog.wire.schema import Message

if TYPE_CHECKING:
    from tierlog.broker.cluster.metadata_feed import MetadataFeed
    from tierlog.metadata.records import Endpoint
    from tierlog.metadata.stores.port import MetadataStore

CLIENT_ID = "tierlog-controller-link"
MAX_UNDER_WAY = 256
MAX_ANSWER_BYTES = 64 * 1024 * 1024
RETRY_S = 0.1
CATCH_UP_S = 1.0


class NotSent(Exception):
    """The controller does not know of the request."""


class Interrupted(Exception):
    """The controller may or may not have carried out the request."""


class ControllerLink:
    """Asks the controller, where another broker is it."""

    def __init__(self, broker_id: int, store: MetadataStore, feed: MetadataFeed, listener: str) -> None:
        """``listener``: name of the listener for connections between brokers."""
        self._broker_id = broker_id
        self._listener = listener
        self._store = store
        self._feed = feed
        self._under_way = asyncio.Semaphore(MAX_UNDER_WAY)

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the controller listens; None while there is none, and where it is this broker."""
        image = self._feed.image
        if image.controller_id in (-1, self._broker_id):
            return None
        return image.endpoint(image.controller_id, self._listener)

    async def ask(self, request: Message, version: int, timeout_s: float) -> Message:
        """The controller's answer, once this broker's image shows its changes, or after ``CATCH_UP_S``. Raises ``NotSent``,
        ``Interrupted``."""
        endpoint = self.endpoint
        if endpoint is None:
            raise NotSent
        try:
            async with asyncio.timeout(timeout_s), self._under_way:
                answer = await _exchange(endpoint, request, version)
        except TimeoutError:
            raise Interrupted from None
        await self._catch_up()
        return answer

    async def create_topic(self, name: str, timeout_s: float) -> ErrorCode:
        """Creates a topic with the controller's defaults."""
        request = CreateTopicsRequest(
            topics=[CreatableTopic(name=name, num_partitions=-1, replication_factor=-1)],
            timeout_ms=int(timeout_s * 1000),
        )
        version = APIS[19].max_version
        try:
            answer = await self.ask(request, version, timeout_s)
        except (NotSent, Interrupted):
            return ErrorCode.NOT_CONTROLLER
        assert isinstance(answer, CreateTopicsResponse)
        return next((ErrorCode(topic.error_code) for topic in answer.topics), ErrorCode.NOT_CONTROLLER)

    async def _catch_up(self) -> None:
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(CATCH_UP_S):
                page = await self._store.range(keys.CLUSTER, limit=1)
                await self._feed.wait_for_revision(page.revision)


async def _exchange(endpoint: Endpoint, request: Message, version: int) -> Message:
    client = PeerClient(CLIENT_ID, MAX_ANSWER_BYTES)
    try:
        await client.connect(endpoint)
    except OSError as error:
        raise NotSent from error
    try:
        return await client.call(request, version)
    except (OSError, PeerUnavailable, MalformedMessage) as error:
        raise Interrupted from error
    finally:
        client.close()
