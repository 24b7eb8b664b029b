"""OffsetFetch (key 9), versions 1-10: a group's stored offsets.

Behaviour: -1 if no offset is stored, also for unknown groups. With ``require_stable`` a partition whose offset
an open transaction may still change is answered UNSTABLE_OFFSET_COMMIT (KIP-447).

Versions: 1 has errors per partition only; from 2 on null topics ask for all; up to 7 one group, from 8 on
several (KIP-709); from 10 on topic ids (a request for all topics of a group gets those that still exist).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, cast

from tierlog.broker.groups.group_calls import PIECE, combine, combine_in_steps
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.coordination.offsets import FEW, unknown_offset
from tierlog.errors import ErrorCode
from tierlog.metadata.image import MetadataImage
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

GROUPS_SINCE = 8
TOPIC_IDS_SINCE = 10
TOP_LEVEL_ERROR_SINCE = 2


def handle(
    services: Services, ctx: RequestContext, request: OffsetFetchRequest
) -> Steps[OffsetFetchResponse | Awaitable[OffsetFetchResponse]]:
    stable = request.require_stable
    if ctx.api_version < GROUPS_SINCE:
        group = yield from group_of_old(request)
        answer = yield from fetch(services, group, stable)
        return combine([answer], lambda groups: old_response(group, groups[0], ctx.api_version))
    answers: list[OffsetFetchResponseGroup | Awaitable[OffsetFetchResponseGroup]] = []
    is_here = True
    whole: dict[str, OffsetFetchResponseGroup | Awaitable[OffsetFetchResponseGroup]] = {}
    for group in request.groups:
        yield
        known = whole.get(group.group_id) if group.topics is None else None
        if known is None:
            kind = fetch if ctx.api_version < TOPIC_IDS_SINCE else fetch_by_id
            wants_all = group.topics is None
            known = yield from kind(services, group, stable)
            if wants_all:
                # A group that is named twice is looked at once: it may be large.
                whole[group.group_id] = known
        answers.append(known)
        is_here = is_here and isinstance(known, OffsetFetchResponseGroup)
    if is_here:
        return OffsetFetchResponse(groups=cast("list[OffsetFetchResponseGroup]", answers))
    return combine(answers, lambda groups: OffsetFetchResponse(groups=groups))


def fetch(
    services: Services, group: OffsetFetchRequestGroup, require_stable: bool
) -> Steps[OffsetFetchResponseGroup | Awaitable[OffsetFetchResponseGroup]]:
    def read(
        piece: OffsetFetchRequestGroup,
    ) -> OffsetFetchResponseGroup | Awaitable[OffsetFetchResponseGroup]:
        return services.groups.read(
            piece.group_id,
            lambda shard: shard.fetch_offsets(piece, require_stable),
            lambda error: OffsetFetchResponseGroup(group_id=piece.group_id, error_code=error),
        )

    topics = group.topics
    if topics is None or len(topics) <= PIECE:
        return read(group)
    pieces = (
        read(OffsetFetchRequestGroup(group_id=group.group_id, topics=topics[start : start + PIECE]))
        for start in range(0, len(topics), PIECE)
    )
    return (yield from combine_in_steps(pieces, joined))


def joined(pieces: list[OffsetFetchResponseGroup]) -> OffsetFetchResponseGroup:
    """One group's answer from those of its pieces; an error in one piece is the answer of the whole group."""
    failed = next((piece for piece in pieces if piece.error_code), None)
    if failed is not None:
        return failed
    whole = pieces[0]
    for piece in pieces[1:]:
        whole.topics += piece.topics
    return whole


def fetch_by_id(
    services: Services, group: OffsetFetchRequestGroup, require_stable: bool
) -> Steps[OffsetFetchResponseGroup | Awaitable[OffsetFetchResponseGroup]]:
    image = services.image
    refused: list[OffsetFetchResponseTopics] = []
    wants_all = group.topics is None
    known: list[OffsetFetchRequestTopics] | None = None
    if group.topics is not None:
        known = []
        for topic in group.topics:
            yield
            found = image.topics_by_id.get(topic.topic_id)
            if found is None:
                refused.append(refuse_topic(topic))
            else:
                topic.name = found.name
                known.append(topic)
    answer = yield from fetch(
        services, OffsetFetchRequestGroup(group_id=group.group_id, topics=known), require_stable
    )
    return combine([answer], lambda groups: with_ids(image, groups[0], refused, wants_all))


def refuse_topic(topic: OffsetFetchRequestTopics) -> OffsetFetchResponseTopics:
    indexes = topic.partition_indexes
    if len(indexes) < FEW:
        rows = [unknown_offset(n, ErrorCode.UNKNOWN_TOPIC_ID) for n in indexes]
        return OffsetFetchResponseTopics(topic_id=topic.topic_id, partitions=rows)
    return OffsetFetchResponseTopics(
        topic_id=topic.topic_id,
        partitions=lazily(
            len(indexes), lambda: (unknown_offset(n, ErrorCode.UNKNOWN_TOPIC_ID) for n in indexes)
        ),
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


def group_of_old(request: OffsetFetchRequest) -> Steps[OffsetFetchRequestGroup]:
    topics = None
    if request.topics is not None:
        topics = []
        for topic in request.topics:
            topics.append(
                OffsetFetchRequestTopics(name=topic.name, partition_indexes=topic.partition_indexes)
            )
            yield
    return OffsetFetchRequestGroup(group_id=request.group_id, topics=topics)


def old_response(
    asked: OffsetFetchRequestGroup, group: OffsetFetchResponseGroup, api_version: int
) -> OffsetFetchResponse:
    topics = group.topics
    if group.error_code and api_version < TOP_LEVEL_ERROR_SINCE:
        error = ErrorCode(group.error_code)
        refused = asked.topics or []
        return OffsetFetchResponse(
            error_code=error, topics=lazily(len(refused), lambda: (refused_old(t, error) for t in refused))
        )
    return OffsetFetchResponse(
        error_code=group.error_code, topics=lazily(len(topics), lambda: map(old_topic, topics))
    )


def refused_old(topic: OffsetFetchRequestTopics, error: ErrorCode) -> OffsetFetchResponseTopic:
    indexes = topic.partition_indexes
    return OffsetFetchResponseTopic(
        name=topic.name,
        partitions=lazily(
            len(indexes), lambda: (old_partition(unknown_offset(index, error)) for index in indexes)
        ),
    )


def old_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic:
    return OffsetFetchResponseTopic(
        name=topic.name,
        partitions=lazily(len(topic.partitions), lambda: map(old_partition, topic.partitions)),
    )


def old_partition(row: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition:
    return OffsetFetchResponsePartition(
        partition_index=row.partition_index,
        committed_offset=row.committed_offset,
        committed_leader_epoch=row.committed_leader_epoch,
        metadata=row.metadata,
        error_code=row.error_code,
    )
