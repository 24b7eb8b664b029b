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
from tests.unit.broker.test_handlers import StuckFlusher, fetch_of, part, produce_of, record_batch, start
from tierlog.broker.handlers.api_versions import SOFTWARE_MAX_CHARS
from tierlog.broker.network.connection import GATHERED_MAX, MAX_PIPELINED
from tierlog.broker.node import Broker
from tierlog.errors import ErrorCode
from tierlog.log.log import Log
from tierlog.log.reading import Slice
from tierlog.metadata.control.topics import NewTopic
from tierlog.records.records import Record, build_batch
from tierlog.replication.waiters import ENDED_MAX, OffsetWaiters
from tierlog.wire.codec import decode_exact, encode
from tierlog.wire.framing import decode_response_header, encode_request
from tierlog.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from tierlog.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from tierlog.wire.messages.fetch import FetchResponse
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from tierlog.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from tierlog.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from tierlog.wire.messages.produce import ProduceResponse
from tierlog.wire.schema import Message

ACKS_ALL = -1
NEVER_MS = 2**31 - 1


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running(tmp_path, controlled_shutdown_enable="false") as started:
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
        assert last in [ticket for _, ticket, _ in waiters.release(5)]

    def test_the_others_keep_their_order(self) -> None:
        waiters: OffsetWaiters[Ticket] = OffsetWaiters()
        tickets = [Ticket() for _ in range(1000)]
        for offset, ticket in enumerate(tickets):
            waiters.park(offset, ticket)
        for ticket in tickets[::3] + tickets[1::3]:
            ticket.has_ended = True
            waiters.note_ended()
        assert len(waiters) < 500
        assert [t for _, t, _ in waiters.release(1000) if not t.has_ended] == tickets[2::3]


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

    async def test_replies_keep_their_order_whatever_ends_first(self, broker: Broker) -> None:
        stuck, quick = await create(broker, 2, flush_mode="ack")
        stuck.flusher = cast(Any, StuckFlusher())
        async with connected(broker) as peer:
            peer.send(produce_of((0, record_batch()), acks=ACKS_ALL, timeout_ms=200))
            peer.send(produce_of((1, record_batch()), acks=ACKS_ALL, timeout_ms=NEVER_MS))
            both = (0, record_batch()), (1, record_batch()), (0, record_batch())
            peer.send(produce_of(*both, acks=ACKS_ALL, timeout_ms=NEVER_MS))
            peer.send(produce_of((1, record_batch()), acks=1))
            await until(lambda: quick.high_watermark == 3 and len(stuck.acknowledgements) == 3)
            stuck.on_durable(2)
            await until(lambda: len(stuck.acknowledgements) == 1)
            stuck.resign(7, stuck.leader_epoch + 1, 9)
            lost = ErrorCode.NOT_LEADER_OR_FOLLOWER
            answers = [rows_of_produce(await peer.receive(ProduceResponse)) for _ in range(4)]
            assert answers[1:] == [[(0, 0)], [(0, 1), (0, 1), (lost, -1)], [(0, 2)]]
            assert answers[0] in ([(0, 0)], [(ErrorCode.REQUEST_TIMED_OUT, -1)])
        assert not len(broker.services.produce_waits.deadlines)

    async def test_a_wide_one(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its answer is made when it is due, in steps."""
        monkeypatch.setattr("tierlog.broker.handlers.produce.WIDE", 1)
        stuck, _ = await create(broker, 2, flush_mode="ack")
        stuck.flusher = cast(Any, StuckFlusher())
        request = produce_of((0, record_batch()), (1, record_batch()), acks=ACKS_ALL, timeout_ms=NEVER_MS)
        deadlines = broker.services.produce_waits.deadlines
        async with connected(broker) as peer:
            peer.send(request)
            await until(lambda: len(deadlines) == 1)
            stuck.resign(7, stuck.leader_epoch + 1, 9)
            lost = ErrorCode.NOT_LEADER_OR_FOLLOWER
            assert rows_of_produce(await peer.receive(ProduceResponse)) == [(lost, -1), (0, 0)]
            assert not len(deadlines)

    async def test_a_wide_one_whose_client_leaves(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tierlog.broker.handlers.produce.WIDE", 0)
        (stuck,) = await create(broker, flush_mode="ack")
        stuck.flusher = cast(Any, StuckFlusher())
        deadlines = broker.services.produce_waits.deadlines
        async with connected(broker) as peer:
            peer.send(produce_of((0, record_batch()), acks=ACKS_ALL, timeout_ms=NEVER_MS))
            await until(lambda: len(deadlines) == 1)
        await until(lambda: not len(deadlines))


def rows_of_produce(response: ProduceResponse) -> list[tuple[int, int]]:
    rows = [row for topic in response.responses for row in topic.partition_responses]
    return [(row.error_code, row.base_offset) for row in rows]


class TestFetches:
    async def test_clients_that_are_gone(self, broker: Broker) -> None:
        (partition,) = await create(broker)
        for _ in range(20):
            async with connected(broker) as peer:
                peer.send(fetch_of(part(0), max_wait_ms=NEVER_MS))
                await until(lambda: len(partition.parked) == 1)
            await until(lambda: not partition.parked)

    async def test_a_wide_one_whose_client_leaves_between_two_steps(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tierlog.broker.fetch.wide_fetch.WIDE", 1)
        partitions = await create(broker, 2)
        memory, request = broker.reply_memory, fetch_of(part(0), part(1), max_wait_ms=NEVER_MS)
        memory.reserve(memory.limit_bytes)
        stays, leaves = start(broker, request, 12), start(broker, request, 12)
        memory.give_back(memory.limit_bytes)
        slices = broker.services.slices
        while not len(slices):
            await asyncio.sleep(0)
        leaves.cancel()
        await until(lambda: not len(slices))
        assert not stays.done()
        assert [len(partition.parked) for partition in partitions] == [1, 1], "the other one waits"


class TestGroups:
    async def test_clients_that_are_gone(self, tmp_path: Path) -> None:
        async with running(tmp_path, group_initial_rebalance_delay_ms="60000") as broker:
            async with connected(broker) as peer:
                peer.send(FindCoordinatorRequest(key="g"), 2)
                await peer.receive(FindCoordinatorResponse, 2)
                await until(lambda: any(led.shard is not None for led in broker.groups.led()))
            protocol = JoinGroupRequestProtocol(name="range", metadata=b"")
            join = JoinGroupRequest(
                group_id="g",
                session_timeout_ms=60_000,
                rebalance_timeout_ms=NEVER_MS,
                protocol_type="consumer",
                protocols=[protocol],
            )
            for _ in range(20):
                async with connected(broker) as peer:
                    await until(lambda: broker.services.groups.partition_of("g") is not None)
                    peer.send(join, 2)
                    await until(lambda: waiting_in_groups(broker) == 1)
                await until(lambda: waiting_in_groups(broker) == 0)


def waiting_in_groups(broker: Broker) -> int:
    return sum(len(led._waiting) for led in broker.groups.led())


class TestAdministration:
    async def test_clients_that_are_gone(self, broker: Broker) -> None:
        """The controller is stuck, and they would wait for ever."""
        task = broker.runner._task
        assert task is not None
        await task.stop()
        for number in range(20):
            async with connected(broker) as peer:
                topic = CreatableTopic(name=f"t{number}", num_partitions=1, replication_factor=1)
                peer.send(CreateTopicsRequest(topics=[topic], timeout_ms=NEVER_MS), 6)
                await until(lambda: broker.dispatcher._tasks)
            await until(lambda: not broker.dispatcher._tasks)

    async def test_calls_that_were_given_up_leave_the_queue_to_others(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tierlog.broker.cluster.controller_runner.MAX_QUEUED_CALLS", 5)
        task = broker.runner._task
        assert task is not None
        await task.stop()
        admin = broker.services.admin
        for number in range(20):
            (result,) = await admin.create_topics([NewTopic(f"t{number}")], timeout_ms=1)
            assert result.error is ErrorCode.REQUEST_TIMED_OUT
            assert len(broker.runner._calls) <= 5
        waiting = [asyncio.ensure_future(admin.create_topics([NewTopic("u")])) for _ in range(5)]
        await until(lambda: all(not call.answer.done() for call in broker.runner._calls))
        (result,) = await admin.create_topics([NewTopic("v")])
        assert result.error is ErrorCode.REQUEST_TIMED_OUT, "no more than so many wait"
        for each in waiting:
            each.cancel()


class TestConnection:
    async def test_so_many_produces_and_no_more(self, broker: Broker) -> None:
        (partition,) = await create(broker, flush_mode="ack")
        partition.flusher = cast(Any, StuckFlusher())
        async with connected(broker) as peer, connected(broker) as other:
            for _ in range(3 * MAX_PIPELINED):
                peer.send(produce_of((0, record_batch()), acks=ACKS_ALL, timeout_ms=NEVER_MS))
            await until(lambda: partition.log.log_end_offset == MAX_PIPELINED)
            for _ in range(10):
                other.send(fetch_of(part(0), max_wait_ms=1))
                await other.receive(FetchResponse)
            assert partition.log.log_end_offset == MAX_PIPELINED
            partition.on_durable(MAX_PIPELINED)
            for _ in range(MAX_PIPELINED):
                await peer.receive(ProduceResponse)
            await until(lambda: partition.log.log_end_offset == 2 * MAX_PIPELINED)

    async def test_what_a_client_calls_itself_is_kept_in_part(self, broker: Broker) -> None:
        name = "n" * 30_000
        async with connected(broker) as peer:
            peer.send(ApiVersionsRequest(client_software_name=name, client_software_version=name), 3)
            assert (await peer.receive(ApiVersionsResponse, 3)).error_code == 0
            (connection,) = broker.listeners[0].connections
            assert len(connection.client_software) == SOFTWARE_MAX_CHARS

    async def test_replies_that_one_client_does_not_take(self, tmp_path: Path) -> None:
        output_bytes = 65_536
        async with running(tmp_path, tierlog_connection_output_bytes=str(output_bytes)) as broker:
            async with connected(broker) as peer:
                names = [MetadataRequestTopic(name=f"{n:0200}") for n in range(100)]
                request = MetadataRequest(topics=names, allow_auto_topic_creation=False)
                for _ in range(1000):
                    peer.send(request, 9)
                (connection,) = broker.listeners[0].connections
                await until(lambda: connection.held_bytes > output_bytes)
                async with connected(broker) as other:
                    for _ in range(20):
                        other.send(request, 9)
                        reply = await other.receive(MetadataResponse, 9)
                reply_bytes = sum(map(len, encode(reply, 9)))
                assert connection.held_bytes <= output_bytes + GATHERED_MAX * reply_bytes
                assert broker.reply_memory.used_bytes == connection.held_bytes
            await until(lambda: not broker.listeners[0].connections)
            assert broker.reply_memory.used_bytes == 0

    async def test_fetches_behind_a_produce_that_waits(self, tmp_path: Path) -> None:
        limit_bytes = 8 << 20
        async with running(tmp_path, tierlog_reply_memory_bytes=str(limit_bytes)) as broker:
            (partition,) = await create(broker, flush_mode="ack")
            async with connected(broker) as peer:
                for _ in range(6):
                    peer.send(produce_of((0, record_batch(900_000)), acks=ACKS_ALL, timeout_ms=NEVER_MS))
                    await peer.receive(ProduceResponse)
                partition.flusher = cast(Any, StuckFlusher())
                peer.send(produce_of((0, record_batch()), acks=ACKS_ALL, timeout_ms=NEVER_MS))
                for _ in range(60):
                    peer.send(fetch_of(part(0, max_bytes=1 << 30)))
                (connection,) = broker.listeners[0].connections
                await until(lambda: connection.held_bytes)
                async with connected(broker) as other:
                    for _ in range(10):
                        other.send(fetch_of(part(0, max_bytes=1 << 30)))
                        (row,) = (await other.receive(FetchResponse)).responses[0].partitions
                        assert len(row.records) > 900_000
                assert broker.reply_memory.used_bytes <= limit_bytes // 2
                partition.on_durable(7)
                await peer.receive(ProduceResponse)
                for _ in range(60):
                    (row,) = (await peer.receive(FetchResponse)).responses[0].partitions
                    assert len(row.records) > 900_000, "none is lost, and each gets something"
                await until(lambda: broker.reply_memory.used_bytes == 0)

    async def test_what_is_read_from_the_disk_counts_meanwhile(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (partition,) = await create(broker)
        seen: list[int] = []

        def read(log: Log, found: Slice) -> bytes:
            seen.append(broker.reply_memory.used_bytes)
            return b""

        monkeypatch.setattr(Log, "read_nowait", lambda log, found: None)
        monkeypatch.setattr(Log, "read", read)
        async with connected(broker) as peer:
            peer.send(produce_of((0, record_batch(200_000)), acks=ACKS_ALL))
            await peer.receive(ProduceResponse)
            peer.send(fetch_of(part(0)))
            await peer.receive(FetchResponse)
        assert seen == [partition.log.size_bytes]
        assert broker.reply_memory.used_bytes == 0
