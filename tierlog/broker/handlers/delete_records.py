"""DeleteRecords (key 21), versions 0-2: advances the log start of partitions at an operator's request.

Behaviour: offset -1 means the high watermark. An offset above it, or below 0, is OFFSET_OUT_OF_RANGE; one below the log
start is accepted and changes nothing. Topics that are only compacted are POLICY_VIOLATION, the coordinators' topics
INVALID_TOPIC_EXCEPTION. A partition that is named twice is answered once, for the last offset. With remote storage the new
log start is committed to the metadata store before it is answered. The answer waits until every living replica has moved its
log start, at most ``timeout_ms`` (REQUEST_TIMED_OUT; the records are deleted all the same). The low watermark is the
smallest log start of the living replicas.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.slices import in_slices
from tierlog.errors import ErrorCode
from tierlog.metadata.internal_topics import INTERNAL_TOPICS
from tierlog.wire.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

TO_HIGH_WATERMARK = -1
# How often a wait checks whether a broker has died or the client has left.
LOOK_AGAIN_S = 1.0
AT_ONCE = 32


async def handle(
    services: Services, ctx: RequestContext, request: DeleteRecordsRequest
) -> DeleteRecordsResponse:
    response = DeleteRecordsResponse()
    deadline_s = services.loop.time() + request.timeout_ms / 1000
    work = []
    async for topic in in_slices(request.topics):
        answered = DeleteRecordsTopicResult(name=topic.name)
        if topic.partitions:  # a topic without partitions is not answered, as in Kafka
            response.topics.append(answered)
        distinct = {asked.partition_index: asked.offset for asked in topic.partitions}
        async for index, offset in in_slices(distinct.items()):
            entry = DeleteRecordsPartitionResult(partition_index=index, low_watermark=-1)
            answered.partitions.append(entry)
            found = services.replicas.by_name(topic.name, index)
            if isinstance(found, ErrorCode):
                entry.error_code = found
            elif topic.name in INTERNAL_TOPICS:
                entry.error_code = ErrorCode.INVALID_TOPIC_EXCEPTION
            else:
                work.append(delete(services, ctx, found, offset, entry, deadline_s))
    # Each partition in a task of its own, since some wait; ``AT_ONCE`` tasks begin in one turn of the loop.
    tasks: list[asyncio.Task[None]] = []
    for start in range(0, len(work), AT_ONCE):
        tasks += [services.background.ask("DeleteRecords", each) for each in work[start : start + AT_ONCE]]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return response


async def delete(
    services: Services,
    ctx: RequestContext,
    partition: Partition,
    offset: int,
    entry: DeleteRecordsPartitionResult,
    deadline_s: float,
) -> None:
    error = partition.check_leadership(-1)
    config = partition.config
    if not error and config.is_compacted and not config.is_deleted_by_retention:
        error = ErrorCode.POLICY_VIOLATION
    end = partition.high_watermark
    target = end if offset == TO_HIGH_WATERMARK else offset
    if not error and not 0 <= target <= end:
        error = ErrorCode.OFFSET_OUT_OF_RANGE
    if not error:
        error = await services.replicas.advance_log_start(partition, target)
    if not error:
        entry.low_watermark = low_watermark(services, partition)
        if entry.low_watermark < target:
            error = await replicated(services, ctx, partition, target, deadline_s)
            if not error:
                entry.low_watermark = low_watermark(services, partition)
    entry.error_code = error


def low_watermark(services: Services, partition: Partition) -> int:
    """The smallest log start of the living replicas; -1 while one of them has not fetched yet, or if another leads."""
    leader = partition.leader
    if leader is None:
        return -1
    alive = {broker.broker_id for broker in services.image.active_brokers()}
    return leader.low_watermark(partition.log_start_offset, alive)


async def replicated(
    services: Services, ctx: RequestContext, partition: Partition, offset: int, deadline_s: float
) -> ErrorCode:
    """Waits for the followers, which learn of the log start by their fetches; ends when the client leaves."""
    stirred = asyncio.Event()
    partition.log_start_waiters[id(stirred)] = stirred.set
    try:
        while not (error := partition.check_leadership(-1)):
            if low_watermark(services, partition) >= offset:
                return ErrorCode.NONE
            left_s = deadline_s - services.loop.time()
            if left_s <= 0 or ctx.session.closing:
                return ErrorCode.REQUEST_TIMED_OUT
            stirred.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, LOOK_AGAIN_S)):
                    await stirred.wait()
        return error
    finally:
        del partition.log_start_waiters[id(stirred)]
