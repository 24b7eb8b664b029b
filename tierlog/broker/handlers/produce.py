"""Produce (key 0), versions 3-13.

Behaviour: each partition's batch is appended in one synchronous step. With acks=0 there is no answer (an error closes the
connection, as in Kafka); with acks=1 the answer comes after the append; with acks=all it comes once the appended records
are committed, at most ``timeout_ms`` later (REQUEST_TIMED_OUT; the records may still become visible). A repeated batch of
an idempotent producer is answered with the offsets of its first append.

If a topic's records must be checked (compacted topics, ``tierlog.validate.records``), large batches are opened
(decompressed and checked) off the loop. A request of many partitions lets other requests in between. In both cases the
connection's next request waits until all partitions of this one are appended.

The current leader is named as of the moment of the answer, also if leadership was lost while the produce waited.

Versions: 3 is the first with record batches; zstd from 7 on; the current leader from 10 on (KIP-951); topic ids instead of
names from 13 on (KIP-516).

Clients cannot produce to the coordinators' own topics (INVALID_TOPIC_EXCEPTION), whichever broker leads them.

Deliberately absent: transactions (a transactional id is answered INVALID_TXN_STATE until they are served; a
transactional batch without one is TRANSACTIONAL_ID_AUTHORIZATION_FAILED: it would hold the last stable offset for ever).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tierlog.broker.cluster.leader_hints import PRODUCE_BY_ID_SINCE, hint_produce
from tierlog.broker.handlers.waiting_produce import Told, WaitingProduce, fail, framed
from tierlog.broker.network.context import CloseConnection, RequestContext
from tierlog.broker.network.rows import WIDE
from tierlog.errors import ErrorCode
from tierlog.log.append import (
    AT_ONCE,
    AppendResult,
    AppendRules,
    NotAtOnce,
    Opened,
    opening,
    refused,
)
from tierlog.metadata.internal_topics import INTERNAL_TOPICS
from tierlog.records.batch import (
    ATTRIBUTES_AT,
    COMPRESSION_MASK,
    HEADER_BYTES,
    LENGTH_AT,
    LOG_OVERHEAD_BYTES,
    MAGIC_AT,
    MAGIC_V2,
    TRANSACTIONAL_BIT,
    Compression,
    InvalidBatch,
)
from tierlog.types import Buffer
from tierlog.wire.messages.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services
    from tierlog.broker.replicas.partition import Partition

ACKS_ALL = -1
# How long a request may keep the loop, and after how many partitions that is checked.
TURN_S = 0.01
PARTITIONS_PER_LOOK = 16
# Lower bound of the time for opening batches, whatever timeout a client sets.
SHORTEST_TIMEOUT_S = 1.0
_ATTRIBUTES_AT = ATTRIBUTES_AT + 1  # the low byte
_SMALLEST_LENGTH = 14  # of a message of format 0


# Errors that are answered without the log start offset, as in Kafka.
_WITHOUT_LOG_START = frozenset(
    {
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.RECORD_LIST_TOO_LARGE,
    }
)


class Later:
    """Gives the response of a wait to a handler, through a future of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener_name: str) -> None:
        self.listener_name = listener_name
        self.future: asyncio.Future[ProduceResponse] = loop.create_future()

    def answered(self, place: WaitingProduce) -> None:
        if not self.future.done():
            self.future.set_result(place.response)


def handle(
    services: Services, ctx: RequestContext, request: ProduceRequest
) -> ProduceResponse | WaitingProduce | Awaitable[ProduceResponse | None] | None:
    produce = Produce(services, ctx, request)
    work = produce.steps()
    pause = next(work, None)
    if pause is None:
        return produce.answer() if produce.count > WIDE or not produce.waiting else produce.wait()
    produce.keep_from(pause)
    return go_on(produce, work, pause)


class Pause(NamedTuple):
    """A pause of a request before the partition of ``data``: its batch must be opened first, or, if ``partition`` is None,
    the request has kept the loop for long enough."""

    data: PartitionProduceData
    partition: Partition | None


# A batch that waits to be committed: partition, answer, end offset (exclusive), leader epoch of its append, its number.
Waiting: TypeAlias = "tuple[Partition, PartitionProduceResponse, int, int, int]"
Work: TypeAlias = Generator[Pause, AppendRules | AppendResult | None]


class Produce:
    """One request; its partitions are appended in turn."""

    __slots__ = ("_ctx", "_failed", "_request", "_response", "count", "kept_bytes", "services", "waiting")

    def __init__(self, services: Services, ctx: RequestContext, request: ProduceRequest) -> None:
        self.services = services
        self._ctx = ctx
        self._request = request
        self._response = ProduceResponse()
        self.waiting: list[Waiting] = []
        self._failed = False
        self.kept_bytes = 0
        self.count = 0  # partitions of which the response has an entry

    @property
    def deadline_s(self) -> float:
        return self._ctx.arrival_s + max(self._request.timeout_ms / 1000, SHORTEST_TIMEOUT_S)

    def steps(self) -> Work:
        """Appends the batches, and pauses where needed. After the pause for a batch the caller sends the rules by which the
        batch was opened, or its refusal; after any other pause None."""
        services, request, version = self.services, self._request, self._ctx.api_version
        by_id = version >= PRODUCE_BY_ID_SINCE
        until_s = self._ctx.arrival_s + TURN_S
        appended = self._ctx.appended
        for topic in request.topic_data:
            if not topic.partition_data:
                continue
            topic_response = TopicProduceResponse(name=topic.name, topic_id=topic.topic_id)
            self._response.responses.append(topic_response)
            for data in topic.partition_data:
                self.count += 1
                if not self.count % PARTITIONS_PER_LOOK and services.loop.time() > until_s:
                    yield Pause(data, None)
                    until_s = services.loop.time() + TURN_S
                if by_id:
                    found = services.replicas.by_id(topic.topic_id, data.index)
                else:
                    found = services.replicas.by_name(topic.name, data.index)
                entry = PartitionProduceResponse(index=data.index)
                topic_response.partition_responses.append(entry)
                error = found
                if found.__class__ is not ErrorCode:
                    error = ErrorCode.NONE if appended else refusal(request, data, version)
                if error:
                    assert isinstance(error, ErrorCode)
                    fail(entry, error)
                    self._failed = True
                    continue
                partition: Partition = found  # type: ignore[assignment]
                if appended:
                    self._note(partition, entry, appended.popleft())
                    continue
                if partition.topic_partition[0] in INTERNAL_TOPICS:
                    fail(entry, ErrorCode.INVALID_TOPIC_EXCEPTION)
                    self._failed = True
                    continue
                opened = AT_ONCE
                while True:
                    try:
                        result = self._append(partition, data, opened)
                    except NotAtOnce:
                        outcome = yield Pause(data, partition)
                        until_s = services.loop.time() + TURN_S
                        if isinstance(outcome, AppendRules):
                            opened = Opened(by=outcome, at_once=True)
                            continue
                        assert outcome is not None
                        result = outcome
                    break
                self._note(partition, entry, result)

    def _append(self, partition: Partition, data: PartitionProduceData, opened: Opened) -> AppendResult:
        needs_all = self._request.acks == ACKS_ALL
        ctx = self._ctx
        if partition.traffic.producer is not ctx.session.traffic:
            self.services.client_traffic.takes_turn(ctx, partition)
        return partition.append(data.records, needs_all, self.services.now_ms(), opened=opened)  # type: ignore[arg-type]

    def _note(self, partition: Partition, entry: PartitionProduceResponse, result: AppendResult) -> None:
        if result.error:
            refuse(entry, result)
            self._failed = True
            return
        entry.base_offset = result.base_offset
        entry.log_append_time_ms = result.append_time_ms
        entry.log_start_offset = result.log_start_offset
        if self._request.acks == ACKS_ALL and partition.high_watermark <= result.last_offset:
            end_offset, number = result.last_offset + 1, self.count - 1
            self.waiting.append((partition, entry, end_offset, partition.leader_epoch, number))

    def answer(self) -> ProduceResponse | asyncio.Future[ProduceResponse] | None:
        response = self._response
        if self._request.acks == 0:
            if self._failed:
                raise CloseConnection
            return None
        if not self.waiting:
            if self._failed:
                version, listener = self._ctx.api_version, self._ctx.listener
                hint_produce(self.services.image, self.services.broker_id, version, listener, response)
            return response
        later = Later(self.services.loop, self._ctx.listener)
        place = self._parked(later, response)
        later.future.add_done_callback(lambda ended: place.leave())
        return later.future

    def wait(self) -> WaitingProduce:
        """The place of the reply in the connection, with the answer encoded already: its partitions are few."""
        ctx = self._ctx
        return self._parked(ctx.session, framed(self._response, ctx.api_version, ctx.correlation_id))

    def _parked(self, told: Told, answer: list[Buffer] | ProduceResponse) -> WaitingProduce:
        ctx = self._ctx
        return self.services.produce_waits.wait(
            told,
            ctx.api_version,
            ctx.correlation_id,
            ctx.arrival_s,
            self._request.timeout_ms,
            [(partition, end_offset, number) for partition, _, end_offset, _, number in self.waiting],
            answer,
            self._failed,
        )

    def look_again(self) -> None:
        """Checks the batches appended before a pause: during it nobody reported that they were committed, or that this
        broker lost leadership. A repeat of a batch that an earlier leader appended waits for this leader to commit it."""
        still = []
        for waiting in self.waiting:
            partition, entry, end_offset, leader_epoch, _ = waiting
            if partition.offline is not None:
                fail(entry, ErrorCode.KAFKA_STORAGE_ERROR)
            elif partition.leader is None or leader_epoch != partition.leader_epoch:
                fail(entry, ErrorCode.NOT_LEADER_OR_FOLLOWER)
            elif partition.high_watermark < end_offset:
                still.append(waiting)
            self._failed = self._failed or entry.error_code != ErrorCode.NONE
        self.waiting = still

    def keep_from(self, pause: Pause) -> None:
        """Copies the batches that are not appended yet: they lie in the receive buffer, which is reused after this step.
        While too many bytes are kept this way, ``open_batch`` refuses, and the client sends again."""
        is_left = False
        openings = self.services.openings
        for topic in self._request.topic_data:
            for data in topic.partition_data:
                is_left = is_left or data is pause.data
                if is_left and data.records is not None:
                    assert isinstance(data.records, memoryview)
                    self.kept_bytes += len(data.records)
                    data.records = memoryview(bytearray(data.records))
        openings.held_bytes += self.kept_bytes


async def go_on(produce: Produce, work: Work, pause: Pause) -> ProduceResponse | None:
    """Carries out the rest of a request that has paused."""
    openings = produce.services.openings
    try:
        while True:
            outcome: AppendRules | AppendResult | None = None
            if pause.partition is None:
                await asyncio.sleep(0)
            else:
                outcome = await open_batch(produce, pause.partition, pause.data)
            try:
                pause = work.send(outcome)
            except StopIteration:
                break
    finally:
        openings.held_bytes -= produce.kept_bytes
    produce.look_again()
    answer = produce.answer()
    return await answer if isinstance(answer, asyncio.Future) else answer


async def open_batch(
    produce: Produce, partition: Partition, data: PartitionProduceData
) -> AppendRules | AppendResult:
    """Opens one batch off the loop; returns the rules by which it is valid, or its refusal."""
    openings = produce.services.openings
    if openings.held_bytes > openings.held_max_bytes and openings.held_bytes > produce.kept_bytes:
        return AppendResult(ErrorCode.REQUEST_TIMED_OUT, error_message="Too many batches wait to be opened.")
    records, rules = data.records, partition.log.rules
    assert isinstance(records, memoryview)
    try:
        await openings.finish(opening(records, rules), produce.deadline_s)
    except InvalidBatch as error:
        return refused(error)._replace(log_start_offset=partition.log_start_offset)
    except TimeoutError:
        return AppendResult(ErrorCode.REQUEST_TIMED_OUT, error_message="The batch was not opened in time.")
    return rules


def refusal(request: ProduceRequest, data: PartitionProduceData, version: int) -> ErrorCode:
    """The checks that Kafka makes before it looks at the log: one batch per partition, of magic 2."""
    if request.acks not in (0, 1, ACKS_ALL):
        return ErrorCode.INVALID_REQUIRED_ACKS
    if request.transactional_id is not None:
        return ErrorCode.INVALID_TXN_STATE
    records = data.records
    if records is None or len(records) == 0:
        return ErrorCode.INVALID_RECORD
    assert isinstance(records, memoryview)
    size = len(records)
    if size < HEADER_BYTES:
        return short_refusal(records)
    if records[MAGIC_AT] != MAGIC_V2:
        return ErrorCode.INVALID_RECORD if records[MAGIC_AT] < MAGIC_V2 else ErrorCode.CORRUPT_MESSAGE
    length = int.from_bytes(records[LENGTH_AT : LENGTH_AT + 4], "big", signed=True)
    if length != size - LOG_OVERHEAD_BYTES:
        too_small = length < HEADER_BYTES - LOG_OVERHEAD_BYTES
        return ErrorCode.CORRUPT_MESSAGE if too_small else ErrorCode.INVALID_RECORD
    attributes = records[_ATTRIBUTES_AT]
    if attributes & TRANSACTIONAL_BIT:
        return ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    if version < 7 and attributes & COMPRESSION_MASK == Compression.ZSTD:
        return ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    return ErrorCode.NONE


def short_refusal(records: memoryview) -> ErrorCode:
    """The error for fewer bytes than a batch header: as in Kafka, CORRUPT_MESSAGE for an impossible length or magic, else
    INVALID_RECORD as for a missing batch."""
    size = len(records)
    if size >= LOG_OVERHEAD_BYTES:
        length = int.from_bytes(records[LENGTH_AT : LENGTH_AT + 4], "big", signed=True)
        if length < _SMALLEST_LENGTH or (size > MAGIC_AT and records[MAGIC_AT] > MAGIC_V2):
            return ErrorCode.CORRUPT_MESSAGE
        if size > MAGIC_AT and records[MAGIC_AT] == MAGIC_V2 and length == size - LOG_OVERHEAD_BYTES:
            return ErrorCode.CORRUPT_MESSAGE
    return ErrorCode.INVALID_RECORD


def refuse(entry: PartitionProduceResponse, result: AppendResult) -> None:
    fail(entry, result.error)
    if result.error not in _WITHOUT_LOG_START:
        entry.log_start_offset = result.log_start_offset
    entry.error_message = result.error_message
    entry.record_errors = [
        BatchIndexAndErrorMessage(batch_index=index, batch_index_error_message=message)
        for index, message in result.record_errors
    ]
