"""OffsetForLeaderEpoch (key 23), versions 2-4: where an epoch ended, so that a client can see that it diverged.

Behaviour: the end offset of the largest epoch at or below the asked one (KIP-279); -1 and -1 where it is not known.
The lineage reaches back to the log start, whatever was deleted locally. Followers do not ask: they learn of a
divergence from their fetches (KIP-595).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.errors import ErrorCode
from tierlog.wire.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


def handle(
    services: Services, ctx: RequestContext, request: OffsetForLeaderEpochRequest
) -> Steps[OffsetForLeaderEpochResponse]:
    response = OffsetForLeaderEpochResponse()
    for topic in request.topics:
        yield
        answered = OffsetForLeaderTopicResult(topic=topic.topic)
        response.topics.append(answered)
        for asked in topic.partitions:
            yield
            entry = EpochEndOffset(partition=asked.partition)
            answered.partitions.append(entry)
            found = services.replicas.by_name(topic.topic, asked.partition)
            error = (
                found if isinstance(found, ErrorCode) else found.check_leadership(asked.current_leader_epoch)
            )
            if error or isinstance(found, ErrorCode):
                entry.error_code = error
                continue
            entry.leader_epoch, entry.end_offset = found.log.end_offset_for_epoch(asked.leader_epoch)
    return response
