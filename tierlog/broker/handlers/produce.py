"""Produce (key 0), versions 3-13.

Behaviour: each partition's batch is appended in one synchronous step; with acks=0 nothing is answered (an error closes
the connection, as Kafka does), with acks=1 after the append, with acks=all once what was appended is committed, at
most ``timeout_ms`` later (REQUEST_TIMED_OUT; the records may still become visible). A repeated batch of an idempotent
producer is answered with the offsets of its first append.

Who leads instead is told as of the moment of the answer: also where leadership was lost while the produce waited.

Versions: 3 is the first with record batches; zstd from 7 on; who leads instead from 10 on (KIP-951); topic ids instead of
names from 13 on (KIP-516).

Deliberately absent: transactions (a transactional id is answered INVALID_TXN_STATE until they are served; a
transactional batch without one is TRANSACTIONAL_ID_AUTHORIZATION_FAILED: it would hold the last stable offset for ever).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from tierlog.broker.context import RequestContext
from tierlog.broker.late_reply import LateReply
from tierlog.broker.leader_hints import PRODUCE_BY_ID_SINCE, hint_produce
from tierlog.broker.slices import Steps
from tierlog.errors import ErrorCode
from tierlog.log.append import AppendResult
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
)
from tierlog.wire.messages.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.partition import Partition
    from tierlog.broker.services import Services

ACKS_ALL = -1
# Partitions of one request that are appended in one go; of more, so many in a step.
WIDE = 500
CHUNK = 8
_ATTRIBUTES_AT = ATTRIBUTES_AT + 1  # the low byte
_SMALLEST_LENGTH = 14  # of a message of format 0

Waiting: TypeAlias = "tuple[Partition, PartitionProduceResponse, int]"
"""A partition, its answer, and the end offset that is to be committed."""

# Refusals that say nothing about the log, as Kafka's.
_WITHOUT_LOG_START = frozenset(
    {
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.RECORD_LIST_TOO_LARGE,
    }
)


class CloseConnection(Exception):
    """acks=0 and an error: closing is the only way to tell the producer."""


class PendingProduce:
    """A produce whose partitions are not all committed yet. Nothing of it stays when it ends, however it ends."""

    __slots__ = ("_hint", "_timer", "_waiting", "future", "has_failed", "is_appending", "response")

    def __init__(self, response: ProduceResponse, hint: Callable[[ProduceResponse], None]) -> None:
        """``hint``: fills in who leads instead, where a wait has ended with an error."""
        self.response = response
        self.has_failed = False
        # More partitions may come: what is committed meanwhile does not answer.
        self.is_appending = False
        self._hint = hint
        self.future: LateReply[ProduceResponse] = LateReply()
        self.future.add_done_callback(self._leave)
        self._waiting: set[PartitionAcknowledgement] = set()
        self._timer: asyncio.TimerHandle | None = None

    def expire_after(self, timeout_ms: int, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(timeout_ms / 1000, self._expire)

    def wait_for(self, partition: Partition, entry: PartitionProduceResponse) -> PartitionAcknowledgement:
        waiting = PartitionAcknowledgement(self, partition, entry)
        self._waiting.add(waiting)
        return waiting

    def committed(self, acknowledgement: PartitionAcknowledgement) -> None:
        self._waiting.discard(acknowledgement)
        if not self._waiting and not self.is_appending:
            self._answer()

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def _expire(self) -> None:
        for waiting in self._waiting:
            fail(waiting.entry, ErrorCode.REQUEST_TIMED_OUT)
        self._give_up()
        self._answer()

    def _answer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.has_failed:
            self._hint(self.response)
        if not self.future.done():
            self.future.set_result(self.response)

    def _leave(self, future: LateReply[ProduceResponse]) -> None:
        """The client is gone, or the answer is there."""
        if self._waiting:
            if self._timer is not None:
                self._timer.cancel()
            self._give_up()

    def _give_up(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for each in waiting:
            each.has_ended = True
            each.partition.acknowledgements.note_ended()


class PartitionAcknowledgement:
    """One partition of a pending produce."""

    __slots__ = ("entry", "has_ended", "partition", "pending")

    def __init__(
        self, pending: PendingProduce, partition: Partition, entry: PartitionProduceResponse
    ) -> None:
        self.pending = pending
        self.partition = partition
        self.entry = entry
        self.has_ended = False

    def on_committed(self, partition: Partition, error: ErrorCode) -> None:
        if not self.has_ended:
            if error:
                fail(self.entry, error)
                self.pending.has_failed = True
            self.pending.committed(self)


def fail(entry: PartitionProduceResponse, error: ErrorCode) -> None:
    entry.error_code = error
    entry.base_offset = -1
    entry.log_append_time_ms = -1
    entry.log_start_offset = -1


def handle(
    services: Services, ctx: RequestContext, request: ProduceRequest
) -> ProduceResponse | LateReply[ProduceResponse] | Steps[Any] | None:
    if len(request.topic_data) > 1 and sum([len(t.partition_data) for t in request.topic_data]) > WIDE:
        return append_many(services, ctx, request)
    response = ProduceResponse()
    waiting: list[Waiting] = []
    failed = False
    now_ms = services.now_ms()
    for topic in request.topic_data:
        rows = topic.partition_data
        if len(rows) > WIDE:
            return append_many(services, ctx, request)
        if rows:
            answered = TopicProduceResponse(name=topic.name, topic_id=topic.topic_id)
            response.responses.append(answered)
            failed |= append(services, ctx, request, topic, rows, answered, waiting, now_ms)
    if request.acks == 0:
        if failed:
            raise CloseConnection
        return None
    if not waiting:
        if failed:
            hint_produce(services, ctx, response)
        return response
    hint = partial(hint_produce, services, ctx)
    return park(services.loop, response, waiting, request.timeout_ms, hint, failed)


def append_many(
    services: Services, ctx: RequestContext, request: ProduceRequest
) -> Steps[ProduceResponse | LateReply[ProduceResponse] | None]:
    """The same for very many partitions, a few in each step. Each waits from its own append on."""
    response = ProduceResponse()
    hint = partial(hint_produce, services, ctx)
    pending = PendingProduce(response, hint)
    pending.is_appending = True
    try:
        yield from _append_in_steps(services, ctx, request, pending)
    except GeneratorExit:
        pending.future.cancel()
        raise
    pending.is_appending = False
    if request.acks == 0:
        if pending.has_failed:
            raise CloseConnection
        return None
    if pending.is_waiting:
        pending.expire_after(request.timeout_ms, services.loop)
        return pending.future
    if pending.has_failed:
        hint_produce(services, ctx, response)
    return response


def _append_in_steps(
    services: Services, ctx: RequestContext, request: ProduceRequest, pending: PendingProduce
) -> Steps[None]:
    for topic in request.topic_data:
        if not topic.partition_data:
            continue
        answered = TopicProduceResponse(name=topic.name, topic_id=topic.topic_id)
        pending.response.responses.append(answered)
        for start in range(0, len(topic.partition_data), CHUNK):
            yield
            waiting: list[Waiting] = []
            rows = topic.partition_data[start : start + CHUNK]
            failed = append(services, ctx, request, topic, rows, answered, waiting, services.now_ms())
            pending.has_failed |= failed
            for partition, entry, end_offset in waiting:
                partition.acknowledgements.park(end_offset, pending.wait_for(partition, entry))


def append(
    services: Services,
    ctx: RequestContext,
    request: ProduceRequest,
    topic: TopicProduceData,
    rows: Sequence[PartitionProduceData],
    answered: TopicProduceResponse,
    waiting: list[Waiting],
    now_ms: int,
) -> bool:
    """Appends these partitions of a topic; returns whether one has failed. ``waiting``: those not committed yet."""
    acks = request.acks
    failed = False
    by_id = ctx.api_version >= PRODUCE_BY_ID_SINCE
    for data in rows:
        if by_id:
            found = services.replicas.by_id(topic.topic_id, data.index)
        else:
            found = services.replicas.by_name(topic.name, data.index)
        entry = PartitionProduceResponse(index=data.index)
        answered.partition_responses.append(entry)
        error = refusal(request, data, ctx.api_version) if found.__class__ is not ErrorCode else found
        if error:
            assert isinstance(error, ErrorCode)
            fail(entry, error)
            failed = True
            continue
        partition: Partition = found  # type: ignore[assignment]
        result = partition.append(data.records, acks == ACKS_ALL, now_ms)  # type: ignore[arg-type]
        if result.error:
            refuse(entry, result)
            failed = True
            continue
        entry.base_offset = result.base_offset
        entry.log_append_time_ms = result.append_time_ms
        entry.log_start_offset = result.log_start_offset
        if acks == ACKS_ALL and partition.high_watermark <= result.last_offset:
            waiting.append((partition, entry, result.last_offset + 1))
    return failed


def park(
    loop: asyncio.AbstractEventLoop,
    response: ProduceResponse,
    waiting: list[Waiting],
    timeout_ms: int,
    hint: Callable[[ProduceResponse], None],
    has_failed: bool,
) -> LateReply[ProduceResponse]:
    pending = PendingProduce(response, hint)
    pending.expire_after(timeout_ms, loop)
    pending.has_failed = has_failed
    for partition, entry, end_offset in waiting:
        partition.acknowledgements.park(end_offset, pending.wait_for(partition, entry))
    return pending.future


def refusal(request: ProduceRequest, data: PartitionProduceData, version: int) -> ErrorCode:
    """What Kafka checks before it looks at the log: one batch a partition, of magic 2."""
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
    """Too few bytes for a batch: Kafka calls a cut-off one missing, and one of an impossible length or magic corrupt."""
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
