"""OffsetDelete (key 47), version 0: removes stored positions of a group (KIP-496).

Behaviour: a topic that live members read is answered GROUP_SUBSCRIBED_TO_TOPIC, a partition that does not exist
UNKNOWN_TOPIC_OR_PARTITION; an empty group id is INVALID_GROUP_ID. A group with members that are no consumers is
NON_EMPTY_GROUP as a whole.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.context import RequestContext
from tierlog.coordination.decision import Decision, Ticket
from tierlog.coordination.shard import GroupShard
from tierlog.errors import ErrorCode
from tierlog.metadata.image import MetadataImage
from tierlog.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)

if TYPE_CHECKING:
    from tierlog.broker.services import Services


def handle(
    services: Services, ctx: RequestContext, request: OffsetDeleteRequest
) -> OffsetDeleteResponse | Awaitable[OffsetDeleteResponse]:
    if not request.group_id:
        return OffsetDeleteResponse(error_code=ErrorCode.INVALID_GROUP_ID)
    refused = take_out_unknown(services.image, request)

    def decide(shard: GroupShard, ticket: Ticket, now_ms: int) -> Decision:
        decision = shard.decide_offset_delete(ticket, request)
        response: OffsetDeleteResponse = decision.replies[-1].response
        if not response.error_code:
            for answered in response.topics:
                answered.partitions += refused.pop(answered.name, [])
            response.topics += [
                OffsetDeleteResponseTopic(name=name, partitions=rows) for name, rows in refused.items()
            ]
        return decision

    return services.groups.call(
        request.group_id, decide, lambda error: OffsetDeleteResponse(error_code=error)
    )


def take_out_unknown(
    image: MetadataImage, request: OffsetDeleteRequest
) -> dict[str, list[OffsetDeleteResponsePartition]]:
    """Partitions that do not exist go from the request to the returned answers, by topic."""
    refused: dict[str, list[OffsetDeleteResponsePartition]] = {}
    for topic in request.topics:
        known = image.topic(topic.name)
        count = 0 if known is None else known.partition_count
        wrong = [row for row in topic.partitions if not 0 <= row.partition_index < count]
        if wrong:
            topic.partitions = [row for row in topic.partitions if 0 <= row.partition_index < count]
            refused.setdefault(topic.name, []).extend(
                OffsetDeleteResponsePartition(
                    partition_index=row.partition_index, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                )
                for row in wrong
            )
    request.topics = [topic for topic in request.topics if topic.partitions]
    return refused
