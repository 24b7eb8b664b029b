"""Metadata (key 3), versions 0-13.

Behaviour: brokers, controller and topics as in the image, with the addresses of the listener that got the request. An
unknown topic is created if the request and ``auto.create.topics.enable`` allow it. The answer waits until it is led, so
that a client never sees the moment between creation and leadership.

A topic that is named twice is answered once. If any topic is asked for by id, those asked for by name alone are not
answered, as in Kafka. A topic that could not be created is answered as unknown: clients ask again.

The answer depends on the request, its version and listener, and on the image alone, so that it is kept for the next who asks
the same (``network.kept_replies``), unless topics are created for it.

Versions: null topics mean all from 1 on (in 0 an empty list does). Answers have topic ids from 10 on. Requests may use them
from 12 on; before, an id or a missing name is INVALID_REQUEST.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Set
from itertools import starmap
from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.broker.network.kept_replies import KeptReplies
from tierlog.broker.work.slices import Steps
from tierlog.errors import ErrorCode
from tierlog.metadata.image import MetadataImage, TopicImage, offline_replicas
from tierlog.metadata.internal_topics import INTERNAL_TOPICS
from tierlog.metadata.records import Endpoint
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from tierlog.wire.schema import ZERO_UUID

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services
    from tierlog.metadata.records import PartitionState

# Bit sets of the operations that an unrestricted principal may do; the bits are Kafka's AclOperation codes.
TOPIC_OPERATIONS = 3576
CLUSTER_OPERATIONS = 8096
_ASKS_BY_ID_SINCE = 12
_THROTTLE_SINCE = 3
KEPT_BYTES = 8 * 1024 * 1024


def handle(
    services: Services, ctx: RequestContext, request: MetadataRequest
) -> Steps[MetadataResponse | Awaitable[MetadataResponse]]:
    image = services.image
    missing: list[str] = []
    for topic in request.topics or ():
        yield
        if ctx.api_version < _ASKS_BY_ID_SINCE and (topic.name is None or topic.topic_id != ZERO_UUID):
            return (yield from refuse(request))
        if topic.name and topic.topic_id == ZERO_UUID and image.topic(topic.name) is None:
            missing.append(topic.name)
    wants_all = request.topics is None or (ctx.api_version == 0 and not request.topics)
    may_create = request.allow_auto_topic_creation and services.config.auto_create_topics_enable
    if missing and may_create and not wants_all:
        ctx.keep = None  # the next one need not create them
        return create_and_answer(services, ctx, request, missing)
    return (yield from answer(services, ctx, request, wants_all))


def kept_replies(services: Services) -> KeptReplies:
    """The replies of one broker that are kept, with what is told of them."""
    kept = KeptReplies(lambda: services.image, _THROTTLE_SINCE, KEPT_BYTES)
    services.registry.value(
        "tierlog_metadata_replies_kept_bytes",
        "gauge",
        "Memory of Metadata replies that are kept for others who ask the same; at most 8 MiB.",
        lambda: kept.used_bytes,
    )
    services.registry.value(
        "tierlog_metadata_replies_from_kept_total",
        "counter",
        "Metadata requests that were answered with a reply that was kept.",
        lambda: kept.hits,
    )
    return kept


def refuse(request: MetadataRequest) -> Steps[MetadataResponse]:
    response = MetadataResponse()
    for topic in request.topics or ():
        yield
        response.topics.append(
            MetadataResponseTopic(
                error_code=ErrorCode.INVALID_REQUEST, name=topic.name or "", topic_id=topic.topic_id
            )
        )
    return response


async def create_and_answer(
    services: Services, ctx: RequestContext, request: MetadataRequest, missing: list[str]
) -> MetadataResponse:
    await services.topic_creation.create_missing(missing)
    await services.replicas.settled()
    return await services.slices.run(answer(services, ctx, request, False))


def reached(
    broker_id: int, endpoints: Iterable[Endpoint], rack: str | None, ctx: RequestContext
) -> Iterator[MetadataResponseBroker]:
    """The broker with its address of the listener that got the request; nothing if it lacks that listener."""
    for endpoint in endpoints:
        if endpoint.listener == ctx.listener:
            yield MetadataResponseBroker(node_id=broker_id, host=endpoint.host, port=endpoint.port, rack=rack)


def answer(
    services: Services, ctx: RequestContext, request: MetadataRequest, wants_all: bool
) -> Steps[MetadataResponse]:
    image = services.image
    response = MetadataResponse(cluster_id=services.cluster_id, controller_id=image.controller_id)
    active = {broker.broker_id for broker in image.active_brokers()}
    offline_dirs = image.offline_dirs()
    for broker in image.active_brokers():
        registration = broker.registration
        assert registration is not None
        response.brokers += reached(broker.broker_id, registration.endpoints, registration.rack, ctx)
    if not response.brokers:
        # All brokers have lost their leases. A client that gets an empty list would forget all brokers and never ask again.
        response.brokers += reached(services.broker_id, services.endpoints, services.config.broker_rack, ctx)
    operations = TOPIC_OPERATIONS if request.include_topic_authorized_operations else -(2**31)
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    if wants_all:
        topics = list(image.topics_by_name.values())
        response.topics = lazily(
            len(topics), lambda: (describe(topic, active, offline_dirs, operations) for topic in topics)
        )
        return response
    asked: dict[tuple[bytes, str | None], None] = {}
    by_id = False
    for topic_asked in request.topics or ():
        yield
        asked[topic_asked.topic_id, topic_asked.name] = None
        by_id = by_id or topic_asked.topic_id != ZERO_UUID
    for topic_id, name in asked:
        yield
        if by_id and topic_id == ZERO_UUID:
            continue
        topic = find(image, topic_id, name)
        if topic is not None:
            response.topics.append(describe(topic, active, offline_dirs, operations))
            continue
        missing = MetadataResponseTopic(error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=name, topic_id=topic_id)
        if not by_id:
            missing.error_code = services.topic_creation.refusal(name or "")
            missing.is_internal = name in INTERNAL_TOPICS
            missing.topic_authorized_operations = operations
        response.topics.append(missing)
    return response


def find(image: MetadataImage, topic_id: bytes, name: str | None) -> TopicImage | None:
    if topic_id != ZERO_UUID:
        return image.topics_by_id.get(topic_id)
    return image.topic(name or "")


def describe(
    topic: TopicImage, active: set[int], offline_dirs: Set[str], operations: int
) -> MetadataResponseTopic:
    partitions = sorted(topic.partitions.items())

    def row(index: int, state: PartitionState) -> MetadataResponsePartition:
        is_led = state.leader in active
        return MetadataResponsePartition(
            error_code=ErrorCode.NONE if is_led else ErrorCode.LEADER_NOT_AVAILABLE,
            partition_index=index,
            leader_id=state.leader if is_led else -1,
            leader_epoch=state.leader_epoch,
            replica_nodes=list(state.replicas),
            isr_nodes=list(state.isr),
            offline_replicas=offline_replicas(state, active, offline_dirs),
        )

    return MetadataResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.name in INTERNAL_TOPICS,
        topic_authorized_operations=operations,
        partitions=lazily(len(partitions), lambda: starmap(row, partitions)),
    )
