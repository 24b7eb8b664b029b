"""Admin requests find the controller, are carried once, and never come back unanswered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.cluster.controller_link import CLIENT_ID, ControllerLink, Interrupted, NotSent
from tierlog.broker.cluster.metadata_feed import MetadataFeed
from tierlog.broker.handlers.forwarding import by_the_controller, says_not_controller
from tierlog.broker.handlers.services import Services
from tierlog.broker.network.context import RequestContext
from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.records import BrokerRegistration, ControllerLease, Endpoint
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.transactions import Put, Txn
from tierlog.wire.codec import encode
from tierlog.wire.framing import decode_request_header, encode_response
from tierlog.wire.messages.create_topics import (
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

VERSION = 7
Answer = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


def answer_of(error: ErrorCode) -> CreateTopicsResponse:
    return CreateTopicsResponse(topics=[CreatableTopicResult(name="t", error_code=error)])


async def local(
    services: Services, ctx: RequestContext, request: CreateTopicsRequest
) -> CreateTopicsResponse:
    """Stands for a handler on a broker that is not the controller."""
    return answer_of(ErrorCode.NOT_CONTROLLER)


class World:
    """Broker 1 asks; broker 2, where it is the controller, answers with the codes of ``codes`` in turn."""

    def __init__(self) -> None:
        self.store = MemoryStore(wall_clock_ms)
        self.feed = MetadataFeed(self.store)
        self.link = ControllerLink(1, self.store, self.feed, "PLAINTEXT")
        self.codes: list[ErrorCode] = []
        self.clients: list[str | None] = []

    async def elect(self, broker_id: int, port: int) -> None:
        registration = BrokerRegistration("i", (Endpoint("PLAINTEXT", "127.0.0.1", port),))
        puts = (
            Put(keys.registration(broker_id), records.encode_registration(registration)),
            Put(keys.CONTROLLER, records.encode_controller(ControllerLease(broker_id, 1))),
        )
        result = await self.store.txn(Txn((), puts))
        await self.feed.wait_for_revision(result.revision)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(4), "big")
        header = decode_request_header(memoryview(await reader.readexactly(size)))
        self.clients.append(header.client_id)
        if self.codes:
            message = answer_of(self.codes.pop(0))
            body = encode(message, VERSION)
            writer.writelines(encode_response(19, VERSION, header.correlation_id, body))
            await writer.drain()
        writer.close()

    def ask(self, timeout_ms: int = 5000, client_id: str = "c") -> Any:
        services = SimpleNamespace(
            image=self.feed.image,
            broker_id=1,
            controller_link=self.link,
            loop=asyncio.get_running_loop(),
        )
        ctx = SimpleNamespace(client_id=client_id, api_version=VERSION)
        request = CreateTopicsRequest(timeout_ms=timeout_ms)
        return by_the_controller(local)(cast(Services, services), cast(RequestContext, ctx), request)

    async def code(self, timeout_ms: int = 5000, client_id: str = "c") -> int:
        answer = await self.ask(timeout_ms, client_id)
        return int(answer.topics[0].error_code)


@asynccontextmanager
async def controller(world: World) -> AsyncIterator[int]:
    server = await asyncio.start_server(world.serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.feed.start()
    yield made
    await made.feed.close()
    await made.store.close()


async def test_the_controllers_answer_is_passed_on(world: World) -> None:
    async with controller(world) as port:
        await world.elect(2, port)
        world.codes = [ErrorCode.NOT_CONTROLLER, ErrorCode.TOPIC_ALREADY_EXISTS]
        assert await world.code() == ErrorCode.TOPIC_ALREADY_EXISTS
        assert world.clients == [CLIENT_ID, CLIENT_ID]
        world.codes = [ErrorCode.NONE]
        assert await world.link.create_topic("t", 5.0) is ErrorCode.NONE


async def test_a_carried_request_is_not_carried_again(world: World) -> None:
    async with controller(world) as port:
        await world.elect(2, port)
        assert await world.code(client_id=CLIENT_ID) == ErrorCode.NOT_CONTROLLER
        assert world.clients == []


async def test_a_connection_that_breaks_is_for_the_client_to_judge(world: World) -> None:
    async with controller(world) as port:
        await world.elect(2, port)
        assert await world.code() == ErrorCode.NOT_CONTROLLER
        assert len(world.clients) == 1
        with pytest.raises(Interrupted):
            await world.link.ask(CreateTopicsRequest(), VERSION, 5.0)


async def test_a_controller_that_does_not_listen_is_tried_until_the_time_is_over(world: World) -> None:
    async with controller(world) as port:
        pass
    await world.elect(2, port)
    with pytest.raises(NotSent):
        await world.link.ask(CreateTopicsRequest(), VERSION, 5.0)
    assert await world.code(timeout_ms=150) == ErrorCode.NOT_CONTROLLER


async def test_without_a_controller_and_with_itself_as_one(world: World) -> None:
    assert world.link.endpoint is None
    assert await world.code(timeout_ms=0) == ErrorCode.NOT_CONTROLLER
    await world.elect(1, 1)
    assert world.link.endpoint is None
    assert await world.code() == ErrorCode.NOT_CONTROLLER  # the handler's own


def test_which_answers_say_so() -> None:
    assert says_not_controller(answer_of(ErrorCode.NOT_CONTROLLER))
    assert not says_not_controller(answer_of(ErrorCode.NONE))
