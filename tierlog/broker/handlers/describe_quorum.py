"""DescribeQuorum (key 55), versions 0-2: the controller and the metadata, in the terms of Kafka's quorum.

There is no quorum of brokers here: metadata is kept in a store. The answer fills in what Kafka's tools show: the leader is
the controller, the leader epoch is taken from the end of the controller's token, the high watermark is this broker's
revision of the metadata. Voters are the active brokers, since each may become the controller; observers are the fenced
ones. This broker does not know how far the others have read: their offsets are -1, its own is its revision.

Behaviour: any partition but that of ``__cluster_metadata`` is UNKNOWN_TOPIC_OR_PARTITION.
Versions: timestamps from 1 on, addresses of the voters from 2 on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.errors import ErrorCode
from tierlog.metadata.control.topics import CLUSTER_METADATA_TOPIC
from tierlog.metadata.image import BrokerImage
from tierlog.wire.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    DescribeQuorumResponsePartitionData,
    DescribeQuorumResponseTopicData,
    Listener,
    Node,
    ReplicaState,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

MAX_EPOCH = 2**31 - 1


def handle(
    services: Services, ctx: RequestContext, request: DescribeQuorumRequest
) -> Steps[DescribeQuorumResponse]:
    response = DescribeQuorumResponse()
    if not _asks_for_metadata(request):
        for topic in request.topics:
            yield
            rows: list[DescribeQuorumResponsePartitionData] = []
            response.topics.append(
                DescribeQuorumResponseTopicData(topic_name=topic.topic_name, partitions=rows)
            )
            for part in topic.partitions:
                yield
                rows.append(
                    DescribeQuorumResponsePartitionData(
                        partition_index=part.partition_index,
                        error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                        error_message="This server does not host this topic-partition.",
                    )
                )
        return response
    image = services.image
    response.error_message = None
    row = DescribeQuorumResponsePartitionData(
        error_message=None,
        leader_id=image.controller_id,
        leader_epoch=image.controller_token & MAX_EPOCH,
        high_watermark=image.revision,
    )
    response.topics.append(
        DescribeQuorumResponseTopicData(topic_name=CLUSTER_METADATA_TOPIC, partitions=[row])
    )
    for broker in image.brokers.values():
        if broker.registration is None:
            continue
        state = _state(services, broker)
        (row.current_voters if broker.is_active else row.observers).append(state)
        listeners = [
            Listener(name=endpoint.listener, host=endpoint.host, port=endpoint.port)
            for endpoint in broker.registration.endpoints
        ]
        if broker.is_active and ctx.api_version >= 2:
            response.nodes.append(Node(node_id=broker.broker_id, listeners=listeners))
    return response


def _asks_for_metadata(request: DescribeQuorumRequest) -> bool:
    named = [topic for topic in request.topics if topic.partitions]
    if len(named) != 1 or named[0].topic_name != CLUSTER_METADATA_TOPIC:
        return False
    return [part.partition_index for part in named[0].partitions[:2]] == [0]


def _state(services: Services, broker: BrokerImage) -> ReplicaState:
    if broker.broker_id != services.broker_id:
        return ReplicaState(replica_id=broker.broker_id, log_end_offset=-1)
    now_ms = services.now_ms()
    return ReplicaState(
        replica_id=broker.broker_id,
        log_end_offset=services.image.revision,
        last_fetch_timestamp=now_ms,
        last_caught_up_timestamp=now_ms,
    )
