"""DeleteRecords (key 21), versions 0-2: moves the log start of partitions, by an operator's word.

Behaviour: offset -1 means the high watermark; above it, or below 0, is OFFSET_OUT_OF_RANGE; below the log start is
accepted and changes nothing. Compacted-only topics refuse (POLICY_VIOLATION), the coordinators' too
(INVALID_TOPIC_EXCEPTION). A partition that is named twice is answered once, for the last offset. With remote storage
the new start is committed to the metadata store before it is answered. The low watermark is the log start after the
deletion.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tierlog.broker.context import RequestContext
from tierlog.broker.partition import Partition
from tierlog.broker.topic_creation import INTERNAL_TOPICS
from tierlog.errors import ErrorCode
from tierlog.wire.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

if TYPE_CHECKING:
    from tierlog.broker.services import Services

TO_HIGH_WATERMARK = -1


async def handle(
    services: Services, ctx: RequestContext, request: DeleteRecordsRequest
) -> DeleteRecordsResponse:
    response = DeleteRecordsResponse()
    work = []
    for topic in request.topics:
        answered = DeleteRecordsTopicResult(name=topic.name)
        response.topics.append(answered)
        for index, offset in {asked.partition_index: asked.offset for asked in topic.partitions}.items():
            entry = DeleteRecordsPartitionResult(partition_index=index, low_watermark=-1)
            answered.partitions.append(entry)
            found = services.replicas.by_name(topic.name, index)
            if isinstance(found, ErrorCode):
                entry.error_code = found
            elif topic.name in INTERNAL_TOPICS:
                entry.error_code = ErrorCode.INVALID_TOPIC_EXCEPTION
            else:
                work.append(delete(services, found, offset, entry))
    await asyncio.gather(*work)
    return response


async def delete(
    services: Services, partition: Partition, offset: int, entry: DeleteRecordsPartitionResult
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
    entry.error_code = error
    if not error:
        entry.low_watermark = partition.log_start_offset
