"""OffsetDelete (key 47), version 0: removes stored positions of a group (KIP-496).

Behaviour: a topic that live members read is answered GROUP_SUBSCRIBED_TO_TOPIC, one that does not exist
UNKNOWN_TOPIC_OR_PARTITION. A group with members that are no consumers is NON_EMPTY_GROUP as a whole.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.context import RequestContext
from tierlog.coordination.decision import Decision, Ticket
from tierlog.coordination.shard import GroupShard
from tierlog.errors import ErrorCode
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
    image = services.image
    refused = [
        OffsetDeleteResponseTopic(
            name=topic.name,
            partitions=[
                OffsetDeleteResponsePartition(
                    partition_index=row.partition_index, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                )
                for row in topic.partitions
            ],
        )
        for topic in request.topics
        if image.topic(topic.name) is None
    ]
    request.topics = [topic for topic in request.topics if image.topic(topic.name) is not None]

    def decide(shard: GroupShard, ticket: Ticket, now_ms: int) -> Decision:
        decision = shard.decide_offset_delete(ticket, request)
        response: OffsetDeleteResponse = decision.replies[-1].response
        if not response.error_code:
            response.topics.extend(refused)
        return decision

    return services.groups.call(
        request.group_id, decide, lambda error: OffsetDeleteResponse(error_code=error)
    )
