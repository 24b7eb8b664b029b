"""OffsetCommit (key 8), versions 2-10: stores a group's offsets.

Behaviour: the answer comes when the offsets are committed to ``__consumer_offsets``. Topics and partitions that
do not exist are answered UNKNOWN_TOPIC_OR_PARTITION (UNKNOWN_TOPIC_ID from 10 on); the others are stored. The
empty group id is allowed. Later requests of the connection need not wait for an ordinary commit: it is decided at once, and
those of one turn of the loop are written, and flushed, as one batch.

Versions: 2-4 may carry a retention time; from 6 on leader epochs; from 7 on static members; from 10 on
topic ids.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.groups.group_calls import PIECE, caller_of, combine_in_steps, in_pieces
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.broker.work.slices import Steps
from tierlog.coordination.decision import Decision, Ticket
from tierlog.coordination.shard import GroupShard
from tierlog.errors import ErrorCode
from tierlog.metadata.image import MetadataImage
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

TOPIC_IDS_SINCE = 10


def handle(
    services: Services, ctx: RequestContext, request: OffsetCommitRequest
) -> (
    OffsetCommitResponse
    | DelayedResponse[OffsetCommitResponse]
    | Steps[OffsetCommitResponse | Awaitable[OffsetCommitResponse]]
):
    if not is_ordinary(services.image, ctx.api_version, request):
        return in_steps(services, ctx, request)
    caller = caller_of(ctx)

    def decide(shard: GroupShard, ticket: Ticket, now_ms: int) -> Decision:
        return shard.decide_offset_commit(ticket, request, caller, now_ms)

    return services.groups.call_pipelined(request.group_id, decide, lambda error: refuse(request, error))


def is_ordinary(image: MetadataImage, api_version: int, request: OffsetCommitRequest) -> bool:
    """Whether the request is short and names only what exists, in versions that name it."""
    if api_version >= TOPIC_IDS_SINCE or not request.topics:
        return False
    room = PIECE
    for topic in request.topics:
        known, rows = image.topics_by_name.get(topic.name), topic.partitions
        room -= len(rows)
        if known is None or not rows or room < 0:
            return False
        count = known.partition_count
        for row in rows:
            if not 0 <= row.partition_index < count:
                return False
    return True


def in_steps(
    services: Services, ctx: RequestContext, request: OffsetCommitRequest
) -> Steps[OffsetCommitResponse | Awaitable[OffsetCommitResponse]]:
    refused = yield from take_out_unknown(services.image, ctx.api_version, request)
    if not request.topics:
        return OffsetCommitResponse(topics=refused)

    caller = caller_of(ctx)

    def commit(part: OffsetCommitRequest) -> OffsetCommitResponse | Awaitable[OffsetCommitResponse]:
        def decide(shard: GroupShard, ticket: Ticket, now_ms: int) -> Decision:
            return shard.decide_offset_commit(ticket, part, caller, now_ms)

        return services.groups.call(part.group_id, decide, lambda error: refuse(part, error))

    def joined(parts: list[OffsetCommitResponse]) -> OffsetCommitResponse:
        response = parts[0]
        for part in parts[1:]:
            # A topic that was split over two pieces is answered once.
            if is_same_topic(response.topics[-1], part.topics[0]):
                add_rows(response.topics[-1], part.topics.pop(0))
            response.topics += part.topics
        add_refused(response.topics, refused)
        return response

    pieces = in_pieces(request.topics, part_of)
    return (yield from combine_in_steps((commit(with_topics(request, piece)) for piece in pieces), joined))


def part_of(
    topic: OffsetCommitRequestTopic, rows: list[OffsetCommitRequestPartition]
) -> OffsetCommitRequestTopic:
    return OffsetCommitRequestTopic(name=topic.name, topic_id=topic.topic_id, partitions=rows)


def with_topics(request: OffsetCommitRequest, topics: list[OffsetCommitRequestTopic]) -> OffsetCommitRequest:
    return OffsetCommitRequest(
        group_id=request.group_id,
        generation_id_or_member_epoch=request.generation_id_or_member_epoch,
        member_id=request.member_id,
        group_instance_id=request.group_instance_id,
        retention_time_ms=request.retention_time_ms,
        topics=topics,
    )


def is_same_topic(one: OffsetCommitResponseTopic, other: OffsetCommitResponseTopic) -> bool:
    return one.name == other.name and one.topic_id == other.topic_id


def take_out_unknown(
    image: MetadataImage, api_version: int, request: OffsetCommitRequest
) -> Steps[list[OffsetCommitResponseTopic]]:
    """Fills in the names of topic ids; moves topics that do not exist from the request to the returned answers."""
    refused = []
    kept = []
    error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    for topic in request.topics:
        yield
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
        wrong = yield from take_out_partitions(topic, count)
        if wrong:
            refused.append(
                OffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id, partitions=wrong)
            )
    # A topic without partitions is not answered, as in Kafka.
    request.topics = [topic for topic in kept if topic.partitions]
    return refused


def take_out_partitions(
    topic: OffsetCommitRequestTopic, partition_count: int
) -> Steps[list[OffsetCommitResponsePartition]]:
    """Moves partitions that do not exist from the request to the returned answers."""
    right: list[OffsetCommitRequestPartition] = []
    wrong: list[OffsetCommitResponsePartition] = []
    error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    for row in topic.partitions:
        yield
        index = row.partition_index
        if 0 <= index < partition_count:
            right.append(row)
        else:
            wrong.append(OffsetCommitResponsePartition(partition_index=index, error_code=error))
    topic.partitions = right
    return wrong


def refuse(request: OffsetCommitRequest, error: ErrorCode) -> OffsetCommitResponse:
    return OffsetCommitResponse(topics=[answer(topic, topic.partitions, error) for topic in request.topics])


def add_refused(topics: list[OffsetCommitResponseTopic], refused: list[OffsetCommitResponseTopic]) -> None:
    """Adds the refused partitions to the answer, so that each topic is answered once."""
    answered = {(topic.name, topic.topic_id): topic for topic in topics}
    for topic in refused:
        known = answered.get((topic.name, topic.topic_id))
        if known is None:
            topics.append(topic)
        else:
            add_rows(known, topic)


def add_rows(topic: OffsetCommitResponseTopic, more: OffsetCommitResponseTopic) -> None:
    rows: object = topic.partitions
    if not isinstance(rows, list):
        topic.partitions = list(topic.partitions)
    topic.partitions += more.partitions


def answer(
    topic: OffsetCommitRequestTopic, rows: list[OffsetCommitRequestPartition], error: ErrorCode
) -> OffsetCommitResponseTopic:
    return OffsetCommitResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=lazily(
            len(rows),
            lambda: (
                OffsetCommitResponsePartition(partition_index=row.partition_index, error_code=error)
                for row in rows
            ),
        ),
    )
