"""OffsetDelete (key 47), version 0: removes stored offsets of a group (KIP-496).

Behaviour: a topic that live members are subscribed to is answered GROUP_SUBSCRIBED_TO_TOPIC, a partition that does not
exist UNKNOWN_TOPIC_OR_PARTITION; an empty group id is INVALID_GROUP_ID. A group whose members are not consumers is
NON_EMPTY_GROUP as a whole.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.groups.group_calls import combine_in_steps, in_pieces
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.coordination.decision import Decision, Ticket
from tierlog.coordination.shard import GroupShard
from tierlog.errors import ErrorCode
from tierlog.metadata.image import MetadataImage
from tierlog.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


def handle(
    services: Services, ctx: RequestContext, request: OffsetDeleteRequest
) -> Steps[OffsetDeleteResponse | Awaitable[OffsetDeleteResponse]]:
    if not request.group_id:
        return OffsetDeleteResponse(error_code=ErrorCode.INVALID_GROUP_ID)
    refused = yield from take_out_unknown(services.image, request)

    asked: list[OffsetDeleteRequest] = []

    def delete(part: OffsetDeleteRequest) -> OffsetDeleteResponse | Awaitable[OffsetDeleteResponse]:
        asked.append(part)

        def decide(shard: GroupShard, ticket: Ticket, now_ms: int) -> Decision:
            return shard.decide_offset_delete(ticket, part)

        return services.groups.call(
            part.group_id, decide, lambda error: OffsetDeleteResponse(error_code=error)
        )

    def joined(parts: list[OffsetDeleteResponse]) -> OffsetDeleteResponse:
        response = parts[0]
        if response.error_code:
            return response
        for part, request in zip(parts[1:], asked[1:], strict=True):
            # The group may have disappeared with its last offset: then there is nothing left to delete.
            topics = deleted(request) if part.error_code else part.topics
            if response.topics and response.topics[-1].name == topics[0].name:
                response.topics[-1].partitions += topics.pop(0).partitions
            response.topics += topics
        for answered in response.topics:
            answered.partitions += refused.pop(answered.name, [])
        response.topics += [
            OffsetDeleteResponseTopic(name=name, partitions=rows) for name, rows in refused.items()
        ]
        return response

    pieces = in_pieces(request.topics, part_of) if request.topics else iter([[]])
    parts = (delete(OffsetDeleteRequest(group_id=request.group_id, topics=piece)) for piece in pieces)
    return (yield from combine_in_steps(parts, joined))


def part_of(
    topic: OffsetDeleteRequestTopic, rows: list[OffsetDeleteRequestPartition]
) -> OffsetDeleteRequestTopic:
    return OffsetDeleteRequestTopic(name=topic.name, partitions=rows)


def deleted(request: OffsetDeleteRequest) -> list[OffsetDeleteResponseTopic]:
    return [
        OffsetDeleteResponseTopic(
            name=topic.name,
            partitions=[
                OffsetDeleteResponsePartition(partition_index=row.partition_index) for row in topic.partitions
            ],
        )
        for topic in request.topics
    ]


def take_out_unknown(
    image: MetadataImage, request: OffsetDeleteRequest
) -> Steps[dict[str, list[OffsetDeleteResponsePartition]]]:
    """Moves partitions that do not exist from the request to the returned answers, by topic."""
    refused: dict[str, list[OffsetDeleteResponsePartition]] = {}
    for topic in request.topics:
        yield
        known = image.topic(topic.name)
        count = 0 if known is None else known.partition_count
        right: list[OffsetDeleteRequestPartition] = []
        wrong: list[OffsetDeleteResponsePartition] = []
        for row in topic.partitions:
            yield
            if 0 <= row.partition_index < count:
                right.append(row)
                continue
            wrong.append(
                OffsetDeleteResponsePartition(
                    partition_index=row.partition_index, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                )
            )
        topic.partitions = right
        if wrong:
            refused.setdefault(topic.name, []).extend(wrong)
    request.topics = [topic for topic in request.topics if topic.partitions]
    return refused
