"""OffsetFetch (key 9), versions 1-10: a group's stored positions.

Behaviour: -1 where none is stored, for unknown groups too. With ``require_stable`` a partition whose position
an open transaction may still move is answered UNSTABLE_OFFSET_COMMIT (KIP-447).

Versions: 1 has errors per partition only; from 2 on null topics ask for all; up to 7 one group, from 8 on
several (KIP-709); from 10 on topic ids (all of a group's topics that still exist when it asks for all).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.context import RequestContext
from tierlog.broker.group_calls import combine
from tierlog.coordination.offsets import unknown_offset
from tierlog.errors import ErrorCode
from tierlog.metadata.image import MetadataImage
from tierlog.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)

if TYPE_CHECKING:
    from tierlog.broker.services import Services

GROUPS_SINCE = 8
TOPIC_IDS_SINCE = 10
TOP_LEVEL_ERROR_SINCE = 2


def handle(
    services: Services, ctx: RequestContext, request: OffsetFetchRequest
) -> OffsetFetchResponse | Awaitable[OffsetFetchResponse]:
    if ctx.api_version < GROUPS_SINCE:
        group = group_of_old(request)
        answers = [fetch(services, group, request.require_stable)]
        return combine(answers, lambda groups: old_response(group, groups[0], ctx.api_version))
    if ctx.api_version < TOPIC_IDS_SINCE:
        answers = [fetch(services, group, request.require_stable) for group in request.groups]
    else:
        answers = [fetch_by_id(services, group, request.require_stable) for group in request.groups]
    return combine(answers, lambda groups: OffsetFetchResponse(groups=groups))


def fetch(
    services: Services, group: OffsetFetchRequestGroup, require_stable: bool
) -> OffsetFetchResponseGroup | Awaitable[OffsetFetchResponseGroup]:
    return services.groups.read(
        group.group_id,
        lambda shard: shard.fetch_offsets(group, require_stable),
        lambda error: OffsetFetchResponseGroup(group_id=group.group_id, error_code=error),
    )


def fetch_by_id(
    services: Services, group: OffsetFetchRequestGroup, require_stable: bool
) -> OffsetFetchResponseGroup | Awaitable[OffsetFetchResponseGroup]:
    image = services.image
    refused: list[OffsetFetchResponseTopics] = []
    wants_all = group.topics is None
    if group.topics is not None:
        known = []
        for topic in group.topics:
            found = image.topics_by_id.get(topic.topic_id)
            if found is None:
                refused.append(refuse_topic(topic))
            else:
                topic.name = found.name
                known.append(topic)
        group.topics = known
    answer = fetch(services, group, require_stable)
    return combine([answer], lambda groups: with_ids(image, groups[0], refused, wants_all))


def refuse_topic(topic: OffsetFetchRequestTopics) -> OffsetFetchResponseTopics:
    return OffsetFetchResponseTopics(
        topic_id=topic.topic_id,
        partitions=[unknown_offset(index, ErrorCode.UNKNOWN_TOPIC_ID) for index in topic.partition_indexes],
    )


def with_ids(
    image: MetadataImage,
    group: OffsetFetchResponseGroup,
    refused: list[OffsetFetchResponseTopics],
    wants_all: bool,
) -> OffsetFetchResponseGroup:
    if group.error_code:
        return group
    if wants_all:
        known = []
        for topic in group.topics:
            found = image.topic(topic.name)
            if found is not None:
                topic.topic_id = found.topic_id
                known.append(topic)
        group.topics = known
    group.topics.extend(refused)
    return group


def group_of_old(request: OffsetFetchRequest) -> OffsetFetchRequestGroup:
    topics = None
    if request.topics is not None:
        topics = [
            OffsetFetchRequestTopics(name=topic.name, partition_indexes=topic.partition_indexes)
            for topic in request.topics
        ]
    return OffsetFetchRequestGroup(group_id=request.group_id, topics=topics)


def old_response(
    asked: OffsetFetchRequestGroup, group: OffsetFetchResponseGroup, api_version: int
) -> OffsetFetchResponse:
    topics = group.topics
    if group.error_code and api_version < TOP_LEVEL_ERROR_SINCE:
        error = ErrorCode(group.error_code)
        topics = [
            OffsetFetchResponseTopics(
                name=topic.name,
                partitions=[unknown_offset(index, error) for index in topic.partition_indexes],
            )
            for topic in asked.topics or ()
        ]
    return OffsetFetchResponse(
        error_code=group.error_code,
        topics=[
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=row.partition_index,
                        committed_offset=row.committed_offset,
                        committed_leader_epoch=row.committed_leader_epoch,
                        metadata=row.metadata,
                        error_code=row.error_code,
                    )
                    for row in topic.partitions
                ],
            )
            for topic in topics
        ],
    )
