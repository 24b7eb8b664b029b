"""Handlers over a whole broker in this process: what the comparison with Apache Kafka cannot see, or cannot force."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.patience import PATIENT_S
from tests.unit.broker.test_config_effects import create, running, until
from tierlog.broker.api_table import ROWS
from tierlog.broker.cluster.topic_creation import MAX_TOPICS_AT_ONCE
from tierlog.broker.handlers import describe_topic_partitions
from tierlog.broker.handlers.produce import PARTITIONS_PER_LOOK
from tierlog.broker.handlers.waiting_produce import WaitingProduce
from tierlog.broker.network.context import CloseConnection, RequestContext
from tierlog.broker.network.places import WaitingReply
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.broker.work.slices import complete
from tierlog.errors import ErrorCode
from tierlog.metadata.image import MetadataImage
from tierlog.records.records import Record, build_batch
from tierlog.wire.codec import decode_exact, encode, encode_bytes
from tierlog.wire.framing import decode_response_header
from tierlog.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from tierlog.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from tierlog.wire.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from tierlog.wire.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsRequestCursor,
)
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ReplicaState
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tierlog.wire.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from tierlog.wire.schema import Message

ACKS_ALL = -1
SOMETHING = bytes(range(16))
BATCH_BYTES = len(build_batch([Record(b"k", b"x" * 100)]))


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running(tmp_path) as started:
        yield started


def session() -> Any:
    """What is remembered of a connection."""
    return SimpleNamespace(
        client_software="",
        closing=False,
        sent_away=None,
        traffic=None,
        listener_name="PLAINTEXT",
        answered=answered,
    )


def answered(place: WaitingReply) -> None:
    place.buffers = place.take_buffers()


def start(broker: Broker, request: Message, version: int | None = None, connection: Any = None) -> Any:
    """What the handler returns at once, for a request that has gone over the wire."""
    row = ROWS[request.API_KEY]
    version = row.spec.max_version if version is None else version
    data = memoryview(bytearray(encode_bytes(request, version)))
    decoded = decode_exact(row.spec.request, version, data)
    (listener,) = {endpoint.listener for endpoint in broker.endpoints}
    ctx = RequestContext(
        request.API_KEY, version, 1, "test", listener, "127.0.0.1", 0.0, connection or session()
    )
    response = row.handle(broker.services, ctx, decoded)
    return complete(response) if isinstance(response, Generator) else response


async def call(broker: Broker, request: Message, version: int | None = None, connection: Any = None) -> Any:
    """The answer, which the version must have room for."""
    response = start(broker, request, version, connection)
    if not isinstance(response, Message):
        response = await asyncio.wait_for(settled(response), PATIENT_S)
    encode(response, ROWS[request.API_KEY].spec.max_version if version is None else version)
    return response


async def settled(later: Any) -> Any:
    if isinstance(later, WaitingProduce):
        await until(lambda: later.has_ended)
        return response_of(later)
    if not isinstance(later, DelayedResponse):
        return await later
    if later.done():
        return later.result()
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    later.add_done_callback(lambda ended: done.set_result(ended.result()))
    return await done


def response_of(place: WaitingProduce) -> ProduceResponse:
    assert place.buffers is not None
    version, frame = place._version, b"".join(place.buffers)[4:]
    return decode_exact(ProduceResponse, version, frame, decode_response_header(0, version, frame)[1])


def record_batch(value_bytes: int = 100) -> bytes:
    return bytes(build_batch([Record(b"k", b"x" * value_bytes)]))


def produce_of(*rows: tuple[int, bytes | None], acks: int = 1, timeout_ms: int = 1000) -> ProduceRequest:
    data = [PartitionProduceData(index=index, records=records) for index, records in rows]
    topic = TopicProduceData(name="t", partition_data=data)
    return ProduceRequest(acks=acks, timeout_ms=timeout_ms, topic_data=[topic])


async def fill(broker: Broker, *rows: tuple[int, bytes]) -> None:
    for row in rows:
        response = await call(broker, produce_of(row, acks=ACKS_ALL), 12)
        assert response.responses[0].partition_responses[0].error_code == 0


def fetch_of(*partitions: FetchPartition, **fields: Any) -> FetchRequest:
    fields = {"max_wait_ms": 60_000, "min_bytes": 1, "session_epoch": -1, **fields}
    return FetchRequest(topics=[FetchTopic(topic="t", partitions=list(partitions))], **fields)


def part(partition: int = 0, offset: int = 0, max_bytes: int = 1 << 20, **fields: Any) -> FetchPartition:
    return FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes, **fields)


def rows_of(response: Any) -> Iterator[Any]:
    return (row for topic in response.responses for row in topic.partitions)


class StuckFlusher:
    """A disk that never finishes."""

    def request(self, partition: Partition) -> None:
        """And never calls back."""


class HeldTimers:
    """The loop, but for its timers: those ring when told."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.create_future = loop.create_future
        self.delays_s: list[float] = []
        self._callbacks: list[Callable[[], object]] = []

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> SimpleNamespace:
        self.delays_s.append(delay_s)
        self._callbacks.append(callback)
        return SimpleNamespace(cancel=lambda: None)

    def fire(self) -> None:
        for callback in self._callbacks:
            callback()


class TestProduce:
    @pytest.mark.parametrize("records", [None, b""])
    async def test_no_records_are_refused_and_leave_the_others_alone(
        self, broker: Broker, records: bytes | None
    ) -> None:
        await create(broker, 2)
        response = await call(broker, produce_of((0, records), (1, record_batch())), 12)
        answers = response.responses[0].partition_responses
        assert [row.error_code for row in answers] == [ErrorCode.INVALID_RECORD, 0]

    async def test_a_partition_named_twice_loses_nothing(self, broker: Broker) -> None:
        await create(broker)
        response = await call(broker, produce_of((0, record_batch()), (0, record_batch())), 12)
        assert [row.base_offset for row in response.responses[0].partition_responses] == [0, 1]

    async def test_a_topic_without_partitions_is_not_answered(self, broker: Broker) -> None:
        assert (await call(broker, produce_of(), 12)).responses == []

    async def test_without_acks_there_is_no_answer_but_the_end_of_the_connection(
        self, broker: Broker
    ) -> None:
        (partition,) = await create(broker)
        assert start(broker, produce_of((0, record_batch()), acks=0), 12) is None
        assert partition.log.log_end_offset == 1
        with pytest.raises(CloseConnection):
            start(broker, produce_of((0, record_batch()), (7, record_batch()), acks=0), 12)
        assert partition.log.log_end_offset == 2

    async def test_what_is_not_committed_in_time_is_told_so(self, broker: Broker) -> None:
        stuck, quick = await create(broker, 2, flush_mode="ack")
        stuck.flusher = cast(Any, StuckFlusher())
        request = produce_of((0, record_batch()), (1, record_batch()), acks=ACKS_ALL, timeout_ms=60_000)
        waiting = start(broker, request, 12)
        await until(lambda: quick.high_watermark == 1)
        assert not waiting.has_ended
        waiting.on_deadline()
        late, good = (await settled(waiting)).responses[0].partition_responses
        assert (late.error_code, late.base_offset) == (ErrorCode.REQUEST_TIMED_OUT, -1)
        assert (good.error_code, good.base_offset) == (0, 0)
        stuck.on_durable(1)  # too late for the answer, and no harm
        assert stuck.high_watermark == 1

    async def test_the_loss_of_leadership_ends_the_wait(self, broker: Broker) -> None:
        (stuck,) = await create(broker, flush_mode="ack")
        stuck.flusher = cast(Any, StuckFlusher())
        waiting = start(broker, produce_of((0, record_batch()), acks=ACKS_ALL, timeout_ms=60_000), 12)
        stuck.resign(7, stuck.leader_epoch + 1, 9)
        (row,) = (await asyncio.wait_for(settled(waiting), PATIENT_S)).responses[0].partition_responses
        assert row.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER

    async def test_a_repeat_of_what_was_appended_under_an_earlier_leader_epoch_waits_too(
        self, broker: Broker
    ) -> None:
        """In a request that lets others in between: it looks again at its partitions afterwards."""
        stuck, *others = await create(broker, 2 * PARTITIONS_PER_LOOK, flush_mode="ack")
        stuck.flusher = cast(Any, StuckFlusher())
        batch = bytes(build_batch([Record(b"k", b"v")], producer_id=7, producer_epoch=0, base_sequence=0))
        first = start(broker, produce_of((0, batch), acks=ACKS_ALL, timeout_ms=60_000), 12)
        assert stuck.leader is not None
        again = replace(stuck.leader, leader_epoch=stuck.leader_epoch + 1, epoch_start_offset=1)
        stuck.lead(again, stuck.partition_epoch + 1)
        (row,) = (await asyncio.wait_for(settled(first), PATIENT_S)).responses[0].partition_responses
        assert row.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        rows = [(n, record_batch()) for n in range(1, len(others) + 1)]
        request = produce_of((0, batch), *rows, acks=ACKS_ALL, timeout_ms=60_000)
        waiting = asyncio.ensure_future(settled(start(broker, request, 12)))
        await until(lambda: bool(stuck.acknowledgements) or waiting.done())
        assert not waiting.done()
        stuck.on_durable(1)
        answers = (await asyncio.wait_for(waiting, PATIENT_S)).responses[0].partition_responses
        assert {(row.error_code, row.base_offset) for row in answers} == {(0, 0)}
        assert stuck.log.log_end_offset == 1

    async def test_only_refusals_of_records_tell_the_log_start(self, broker: Broker) -> None:
        await create(broker, max_message_bytes="500")
        marked = bytearray(record_batch())
        marked[0] = 1  # a base offset
        for records, code, log_start_offset in (
            (record_batch(600), ErrorCode.MESSAGE_TOO_LARGE, -1),
            (record_batch()[:-1] + b"?", ErrorCode.CORRUPT_MESSAGE, -1),
            (bytes(marked), ErrorCode.INVALID_RECORD, 0),
        ):
            (row,) = (await call(broker, produce_of((0, records)), 12)).responses[0].partition_responses
            assert (row.error_code, row.log_start_offset, row.base_offset) == (code, log_start_offset, -1)


class TestFetch:
    async def test_limits_count_whole_though_only_whole_batches_come(self, broker: Broker) -> None:
        await create(broker, 2)
        await fill(broker, *[(0, record_batch())] * 3, (1, record_batch()))
        limit = 2 * BATCH_BYTES + 50
        request = fetch_of(part(0, 0, limit), min_bytes=limit)
        assert len(next(rows_of(start(broker, request, 12))).records) == 2 * BATCH_BYTES
        two = fetch_of(part(0, 0, limit), part(1), min_bytes=limit + BATCH_BYTES)
        assert sum(len(row.records) for row in rows_of(await call(broker, two, 12))) == 3 * BATCH_BYTES
        for least in (limit + 1, 3 * BATCH_BYTES):
            waiting = start(broker, fetch_of(part(0, 0, limit), min_bytes=least), 12)
            assert isinstance(waiting, DelayedResponse), "Kafka waits for more, too"
            waiting.cancel()

    async def test_nobody_waits_for_more_than_the_whole_limit(self, broker: Broker) -> None:
        await create(broker)
        await fill(broker, *[(0, record_batch())] * 3)
        request = fetch_of(part(), min_bytes=1 << 20, max_bytes=BATCH_BYTES + 50)
        assert len(next(rows_of(start(broker, request, 12))).records) == BATCH_BYTES

    async def test_older_segments_are_not_waited_for(self, broker: Broker) -> None:
        await create(broker, segment_bytes="1048576")
        await fill(broker, (0, record_batch(700_000)), (0, record_batch(700_000)))
        request = fetch_of(part(0, 0, 1 << 24), min_bytes=1 << 23)
        assert len(next(rows_of(start(broker, request, 12))).records) > 700_000
        waiting = start(broker, fetch_of(part(0, 1, 1 << 24), min_bytes=1 << 23), 12)
        assert isinstance(waiting, DelayedResponse)
        waiting.cancel()

    async def test_the_unknown_wait_with_the_others_but_not_alone(self, broker: Broker) -> None:
        (partition,) = await create(broker)
        (row,) = rows_of(start(broker, fetch_of(part(7)), 12))
        assert (row.error_code, row.aborted_transactions) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, [])
        waiting = start(broker, fetch_of(part(7), part(0)), 12)
        assert isinstance(waiting, DelayedResponse)
        await fill(broker, (0, record_batch()))
        rows = list(rows_of(await asyncio.wait_for(settled(waiting), PATIENT_S)))
        assert [row.error_code for row in rows] == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, 0]
        assert len(rows[1].records) == BATCH_BYTES
        assert partition.parked == {}

    async def test_an_error_ends_the_wait_and_tells_nothing_else(self, broker: Broker) -> None:
        await create(broker, 2)
        response = start(broker, fetch_of(part(0), part(1, 99), isolation_level=1), 12)
        _, row = rows_of(response)
        assert row.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        told = (row.high_watermark, row.last_stable_offset, row.log_start_offset, row.aborted_transactions)
        assert told == (-1, -1, -1, None)

    async def test_a_fetch_that_nobody_waits_for_leaves_no_trace(self, broker: Broker) -> None:
        (partition,) = await create(broker)
        waiting = start(broker, fetch_of(part()), 12)
        assert len(partition.parked) == 1
        waiting.cancel()
        await asyncio.sleep(0)
        assert partition.parked == {}

    async def test_a_diverging_epoch_is_told_at_once_and_again_in_a_session(self, broker: Broker) -> None:
        await create(broker)
        await fill(broker, (0, record_batch()))
        ahead = part(0, 5, last_fetched_epoch=0)
        response = start(broker, fetch_of(ahead, session_epoch=0), 12)
        for epoch in (1, 2):
            (row,) = rows_of(response)
            assert (row.error_code, row.diverging_epoch.epoch, row.diverging_epoch.end_offset) == (0, 0, 1)
            assert len(row.records) == 0
            again = FetchRequest(max_wait_ms=60_000, min_bytes=1, session_id=response.session_id)
            again.session_epoch = epoch
            response = start(broker, again, 12)
        (row,) = rows_of(start(broker, fetch_of(part(0, 0, last_fetched_epoch=3)), 12))
        assert row.error_code == ErrorCode.OFFSET_OUT_OF_RANGE, "an epoch that never was"
        (row,) = rows_of(start(broker, fetch_of(part(0, 0, last_fetched_epoch=0)), 12))
        assert len(row.records) == BATCH_BYTES

    @pytest.mark.parametrize("version", [12, 17])
    async def test_a_replica_is_given_nothing(self, broker: Broker, version: int) -> None:
        (partition,) = await create(broker)
        await fill(broker, (0, record_batch()))
        request = fetch_of(part())
        request.topics[0].topic_id = partition.topic_id
        if version < 15:
            request.replica_id = 1
        else:
            request.replica_state = ReplicaState(replica_id=1, replica_epoch=1)
        (row,) = rows_of(start(broker, request, version))
        assert (row.error_code, bytes(row.records)) == (ErrorCode.TOPIC_AUTHORIZATION_FAILED, b"")


class TestMetadata:
    async def test_coordinators_topics_are_not_made_by_asking(self, broker: Broker) -> None:
        asked = [MetadataRequestTopic(name=name) for name in ("__transaction_state", "t")]
        known, missing = sorted(
            (await call(broker, MetadataRequest(topics=asked))).topics, key=lambda topic: topic.error_code
        )
        assert (known.name, known.error_code, known.is_internal) == ("t", 0, False)
        assert (missing.error_code, missing.is_internal) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, True)
        asked = [MetadataRequestTopic(name="__consumer_offsets")]
        (offsets,) = (await call(broker, MetadataRequest(topics=asked))).topics
        assert len(offsets.partitions) == broker.config.offsets_topic_num_partitions

    async def test_a_client_is_never_told_of_nobody(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All have lost their leases: it would forget the brokers that it knows, and ask no more."""
        monkeypatch.setattr(MetadataImage, "active_brokers", lambda image: [])
        (itself,) = (await call(broker, MetadataRequest(topics=None))).brokers
        (endpoint,) = broker.endpoints
        assert (itself.node_id, itself.host, itself.port) == (1, endpoint.host, endpoint.port)

    async def test_one_request_makes_so_many_topics_and_no_more(self, broker: Broker) -> None:
        asked = [MetadataRequestTopic(name=f"t{n}") for n in range(MAX_TOPICS_AT_ONCE + 5)]
        response = await call(broker, MetadataRequest(topics=asked))
        codes = [topic.error_code for topic in response.topics]
        assert codes.count(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) == 5
        assert codes.count(ErrorCode.NONE) == MAX_TOPICS_AT_ONCE

    async def test_so_many_topics_are_under_way_and_no_more(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tierlog.broker.cluster.topic_creation.MAX_UNDER_WAY", 5)
        asked = [[MetadataRequestTopic(name=f"t{n}-{i}") for i in range(4)] for n in range(4)]
        responses = await asyncio.gather(*(call(broker, MetadataRequest(topics=each)) for each in asked))
        codes = [topic.error_code for response in responses for topic in response.topics]
        assert codes.count(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) == 11

    async def test_where_creation_is_off_nothing_is_created(self, tmp_path: Path) -> None:
        async with running(tmp_path, auto_create_topics_enable="false") as broker:
            asked = MetadataRequest(topics=[MetadataRequestTopic(name="t")])
            (topic,) = start(broker, asked).topics
            assert topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    async def test_ids_put_names_aside(self, broker: Broker) -> None:
        (partition,) = await create(broker)
        asked = [
            MetadataRequestTopic(name="t"),
            MetadataRequestTopic(name=None, topic_id=SOMETHING),
            MetadataRequestTopic(name=None, topic_id=partition.topic_id),
        ]
        topics = start(broker, MetadataRequest(topics=asked)).topics
        assert [(topic.name, topic.error_code) for topic in topics] == [
            (None, ErrorCode.UNKNOWN_TOPIC_ID),
            ("t", 0),
        ]
        refused = start(broker, MetadataRequest(topics=asked), 11).topics
        assert {topic.error_code for topic in refused} == {ErrorCode.INVALID_REQUEST}
        assert [topic.topic_id for topic in refused[1:]] == [SOMETHING, partition.topic_id]


class TestTopics:
    async def test_what_is_named_wrongly_stays(self, broker: Broker) -> None:
        (partition,) = await create(broker)
        by_name, by_id = DeleteTopicState(name="t"), DeleteTopicState(name=None, topic_id=partition.topic_id)
        both = DeleteTopicState(name="t", topic_id=partition.topic_id)
        neither = DeleteTopicState(name=None)
        for states, answers in (
            ([by_name, by_id], 1),
            ([by_name, by_name], 1),
            ([by_id, by_id], 1),
            ([both, both], 2),
            ([neither, neither], 2),
        ):
            response = await call(broker, DeleteTopicsRequest(topics=states, timeout_ms=5000))
            assert [row.error_code for row in response.responses] == [ErrorCode.INVALID_REQUEST] * answers
            assert all(row.error_message for row in response.responses)
        assert broker.services.image.topic("t") is not None
        (row,) = (await call(broker, DeleteTopicsRequest(topics=[by_id], timeout_ms=5000))).responses
        assert (row.name, row.error_code) == ("t", 0)
        assert broker.services.image.topic("t") is None

    async def test_deletion_may_be_off(self, tmp_path: Path) -> None:
        async with running(tmp_path, delete_topic_enable="false") as broker:
            await create(broker)
            request = DeleteTopicsRequest(topic_names=["t"], timeout_ms=5000)
            (row,) = (await call(broker, request, 5)).responses
            assert row.error_code == ErrorCode.TOPIC_DELETION_DISABLED

    async def test_pages_show_every_partition_once(self, broker: Broker) -> None:
        new = [CreatableTopic(name=f"t{n}", num_partitions=n, replication_factor=1) for n in (1, 2, 3)]
        await call(broker, CreateTopicsRequest(topics=new, timeout_ms=5000))
        for limit in (1, 2, 3, 4, 6, 7):
            seen, cursor = [], None
            while True:
                request = DescribeTopicPartitionsRequest(response_partition_limit=limit, cursor=cursor)
                response = start(broker, request)
                page = [
                    (topic.name, row.partition_index) for topic in response.topics for row in topic.partitions
                ]
                assert len(page) <= limit
                seen += page
                if response.next_cursor is None:
                    break
                cursor = DescribeTopicPartitionsRequestCursor(
                    topic_name=response.next_cursor.topic_name,
                    partition_index=response.next_cursor.partition_index,
                )
            assert seen == [("t1", 0), ("t2", 0), ("t2", 1), ("t3", 0), ("t3", 1), ("t3", 2)]

    async def test_the_broker_bounds_a_page(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(describe_topic_partitions, "MAX_PARTITIONS", 2)
        await create(broker, 3)
        response = start(broker, DescribeTopicPartitionsRequest(response_partition_limit=100))
        assert len(response.topics[0].partitions) == 2
        assert (response.next_cursor.topic_name, response.next_cursor.partition_index) == ("t", 2)

    async def test_log_dirs_of_some(self, broker: Broker) -> None:
        await create(broker, 2)
        asked = [DescribableLogDirTopic(topic=name, partitions=[1, 9]) for name in ("t", "absent")]
        (result,) = start(broker, DescribeLogDirsRequest(topics=asked)).results
        assert [
            (topic.name, [row.partition_index for row in topic.partitions]) for topic in result.topics
        ] == [("t", [1])]
        assert 0 < result.usable_bytes <= result.total_bytes
