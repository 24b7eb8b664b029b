"""Whatever waits for a client ends with its time or with the client: nothing of it stays in the broker (I15)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from tests.patience import PATIENT_S
from tests.unit.broker.test_config_effects import create, running, until
from tests.unit.broker.test_handlers import StuckFlusher, fetch_of, part, produce_of, record_batch
from tierlog.broker.node import Broker
from tierlog.errors import ErrorCode
from tierlog.records.records import Record, build_batch
from tierlog.replication.waiters import ENDED_MAX, OffsetWaiters
from tierlog.wire.codec import decode_exact, encode
from tierlog.wire.framing import decode_response_header, encode_request
from tierlog.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from tierlog.wire.messages.produce import ProduceResponse
from tierlog.wire.schema import Message

ACKS_ALL = -1
NEVER_MS = 2**31 - 1


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running(tmp_path) as started:
        yield started


class Peer:
    """A client of one socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, request: Message, version: int = 12) -> None:
        assert request.API_KEY is not None
        self._writer.writelines(encode_request(request.API_KEY, version, 1, "peer", encode(request, version)))

    async def receive(self, response: type[Message], version: int = 12) -> Any:
        assert response.API_KEY is not None
        size = int.from_bytes(await asyncio.wait_for(self._reader.readexactly(4), PATIENT_S))
        frame = await asyncio.wait_for(self._reader.readexactly(size), PATIENT_S)
        _, offset = decode_response_header(response.API_KEY, version, frame)
        return decode_exact(response, version, frame, offset)


@asynccontextmanager
async def connected(broker: Broker) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.listeners[0].port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


class Ticket:
    def __init__(self) -> None:
        self.has_ended = False


class TestOffsetWaiters:
    def test_those_that_ended_do_not_pile_up(self) -> None:
        waiters: OffsetWaiters[Ticket] = OffsetWaiters()
        last = Ticket()
        waiters.park(5, last)
        for _ in range(10_000):
            ticket = Ticket()
            waiters.park(5, ticket)
            ticket.has_ended = True
            waiters.note_ended()
            assert len(waiters) <= 2 * ENDED_MAX + 2
        assert last in waiters.release(5)

    def test_the_others_keep_their_order(self) -> None:
        waiters: OffsetWaiters[Ticket] = OffsetWaiters()
        tickets = [Ticket() for _ in range(1000)]
        for offset, ticket in enumerate(tickets):
            waiters.park(offset, ticket)
        for ticket in tickets[::3] + tickets[1::3]:
            ticket.has_ended = True
            waiters.note_ended()
        assert len(waiters) < 500
        assert [t for t in waiters.release(1000) if not t.has_ended] == tickets[2::3]


class TestProduces:
    async def test_repeats_of_one_batch_whose_time_is_over(self, broker: Broker) -> None:
        (partition,) = await create(broker, flush_mode="ack")
        partition.flusher = cast(Any, StuckFlusher())
        async with connected(broker) as peer:
            peer.send(InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000), 4)
            given = await peer.receive(InitProducerIdResponse, 4)
            batch = bytes(
                build_batch(
                    [Record(b"k", b"v")],
                    producer_id=given.producer_id,
                    producer_epoch=given.producer_epoch,
                    base_sequence=0,
                )
            )
            for _ in range(50):
                for _ in range(10):
                    peer.send(produce_of((0, batch), acks=ACKS_ALL, timeout_ms=1))
                for _ in range(10):
                    (entry,) = (await peer.receive(ProduceResponse)).responses[0].partition_responses
                    assert entry.error_code == ErrorCode.REQUEST_TIMED_OUT
                assert len(partition.acknowledgements) <= 2 * ENDED_MAX + 2

    async def test_clients_that_are_gone(self, broker: Broker) -> None:
        (partition,) = await create(broker, flush_mode="ack")
        partition.flusher = cast(Any, StuckFlusher())
        for _ in range(30):
            async with connected(broker) as peer:
                for _ in range(20):
                    peer.send(produce_of((0, record_batch()), acks=ACKS_ALL, timeout_ms=NEVER_MS))
                waiting = partition.log.log_end_offset + 20
                await until(lambda waiting=waiting: partition.log.log_end_offset == waiting)
            await until(lambda: not broker.listeners[0].connections)
            assert len(partition.acknowledgements) <= 2 * ENDED_MAX + 2


class TestFetches:
    async def test_clients_that_are_gone(self, broker: Broker) -> None:
        (partition,) = await create(broker)
        for _ in range(20):
            async with connected(broker) as peer:
                peer.send(fetch_of(part(0), max_wait_ms=NEVER_MS))
                await until(lambda: len(partition.parked) == 1)
            await until(lambda: not partition.parked)
