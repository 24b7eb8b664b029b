"""Fetch (key 1), versions 4-18.

Behaviour: full and incremental fetches (KIP-227), long poll until ``min_bytes`` or ``max_wait_ms``, whole batches within
``max_bytes`` and ``partition_max_bytes``, except that the first batch is returned however large (KIP-74). The broker's own
bound is ``fetch.max.bytes``. Offsets below the local log start are read from the remote tier. A partition that cannot be
read is answered with its own error and does not affect the others.

A consumer is sent to a follower in its rack if there is one, and may fetch from any replica (KIP-392, from version 11 on).

Versions: sessions from 7, leader epochs from 9, flexible from 12, topic ids from 13, replica state as a tag from 15.

A follower's fetch is served only on the brokers' own listener, to a registered broker, and from version 15 on, which
carries the broker epoch (see ``leading.follower_fetch``). Any other client that claims to be a replica is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tierlog.broker.fetch.consumer_fetch import consumer_fetch
from tierlog.broker.fetch.wide_fetch import WideFetch, fetch_many, names_many
from tierlog.broker.leading.follower_fetch import follower_fetch, refusal
from tierlog.broker.network.context import RequestContext
from tierlog.broker.network.rows import WIDE
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.broker.work.slices import Steps
from tierlog.errors import ErrorCode
from tierlog.wire.messages.fetch import FetchableTopicResponse, FetchRequest, FetchResponse, PartitionData

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


def handle(
    services: Services, ctx: RequestContext, request: FetchRequest
) -> FetchResponse | DelayedResponse[FetchResponse] | Steps[Any]:
    is_replica = request.replica_id >= 0 or request.replica_state.replica_id >= 0
    if is_replica:
        error = refusal(services, ctx, request)
        if error is ErrorCode.STALE_BROKER_EPOCH:
            return FetchResponse(error_code=error)
        if error:
            return refuse_replica(request)
    elif names_many(request):
        return fetch_many(services, ctx, request)
    context = services.fetch_sessions.resolve(request, ctx.api_version, services.loop.time())
    if context.error:
        return FetchResponse(error_code=context.error)
    if is_replica:
        return follower_fetch(services, ctx, request, context)
    if len(context.partitions) > WIDE:
        return WideFetch(services, ctx, request, context).steps()
    return consumer_fetch(services, ctx, request, context)


def refuse_replica(request: FetchRequest) -> Steps[FetchResponse]:
    """The refusal of a client that claims to be a replica: its fetches could move the high watermark."""
    response = FetchResponse()
    for topic in request.topics:
        yield
        answered = FetchableTopicResponse(topic=topic.topic, topic_id=topic.topic_id)
        response.responses.append(answered)
        for partition in topic.partitions:
            yield
            answered.partitions.append(
                PartitionData(
                    partition_index=partition.partition,
                    error_code=ErrorCode.TOPIC_AUTHORIZATION_FAILED,
                    high_watermark=-1,
                    records=b"",
                )
            )
    return response
