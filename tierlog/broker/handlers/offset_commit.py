"""OffsetCommit (key 8), versions 2-10: stores a group's positions.

Behaviour: answered when the positions are committed to ``__consumer_offsets``. Topics and partitions that do
not exist are answered UNKNOWN_TOPIC_OR_PARTITION (UNKNOWN_TOPIC_ID from 10 on), the others are stored. The
empty group id is allowed.

Versions: 2-4 may bring an own retention time; from 6 on leader epochs; from 7 on static members; from 10 on
topic ids.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.context import RequestContext
from tierlog.broker.group_calls import caller_of
from tierlog.coordination.decision import Decision, Ticket
from tierlog.coordination.shard import GroupShard
from tierlog.errors import ErrorCode
from tierlog.metadata.image import MetadataImage
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

if TYPE_CHECKING:
    from tierlog.broker.services import Services

TOPIC_IDS_SINCE = 10


def handle(
    services: Services, ctx: RequestContext, request: OffsetCommitRequest
) -> OffsetCommitResponse | Awaitable[OffsetCommitResponse]:
    refused = take_out_unknown(services.image, ctx.api_version, request)
    if not request.topics:
        return OffsetCommitResponse(topics=refused)

    caller = caller_of(ctx)

    def decide(shard: GroupShard, ticket: Ticket, now_ms: int) -> Decision:
        decision = shard.decide_offset_commit(ticket, request, caller, now_ms)
        if refused:
            add_refused(decision.replies[-1].response.topics, refused)
        return decision

    return services.groups.call(request.group_id, decide, lambda error: refuse(request, refused, error))


def take_out_unknown(
    image: MetadataImage, api_version: int, request: OffsetCommitRequest
) -> list[OffsetCommitResponseTopic]:
    """Fills in names of topic ids; topics that do not exist go from the request to the returned answers."""
    refused = []
    kept = []
    error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    for topic in request.topics:
        if api_version >= TOPIC_IDS_SINCE:
            error = ErrorCode.UNKNOWN_TOPIC_ID
            known = image.topics_by_id.get(topic.topic_id)
            if known is not None:
                topic.name = known.name
        else:
            known = image.topics_by_name.get(topic.name)
        if known is None:
            refused.append(answer(topic, topic.partitions, error))
            continue
        kept.append(topic)
        count = known.partition_count
        for row in topic.partitions:
            if not 0 <= row.partition_index < count:
                refused.append(take_out_partitions(topic, count))
                break
    # A topic without partitions is not answered, as in Kafka.
    request.topics = [topic for topic in kept if topic.partitions]
    return refused


def take_out_partitions(topic: OffsetCommitRequestTopic, partition_count: int) -> OffsetCommitResponseTopic:
    """Partitions that do not exist go from the request to the returned answer."""
    wrong = [row for row in topic.partitions if not 0 <= row.partition_index < partition_count]
    topic.partitions = [row for row in topic.partitions if 0 <= row.partition_index < partition_count]
    return answer(topic, wrong, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)


def refuse(
    request: OffsetCommitRequest, refused: list[OffsetCommitResponseTopic], error: ErrorCode
) -> OffsetCommitResponse:
    topics = [answer(topic, topic.partitions, error) for topic in request.topics]
    add_refused(topics, refused)
    return OffsetCommitResponse(topics=topics)


def add_refused(topics: list[OffsetCommitResponseTopic], refused: list[OffsetCommitResponseTopic]) -> None:
    """Each topic is answered once."""
    answered = {(topic.name, topic.topic_id): topic for topic in topics}
    for topic in refused:
        known = answered.get((topic.name, topic.topic_id))
        if known is None:
            topics.append(topic)
        else:
            known.partitions += topic.partitions


def answer(
    topic: OffsetCommitRequestTopic, rows: list[OffsetCommitRequestPartition], error: ErrorCode
) -> OffsetCommitResponseTopic:
    return OffsetCommitResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=[
            OffsetCommitResponsePartition(partition_index=row.partition_index, error_code=error)
            for row in rows
        ],
    )
