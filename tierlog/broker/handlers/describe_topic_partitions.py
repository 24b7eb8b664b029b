"""DescribeTopicPartitions (key 75), version 0 (KIP-966): partitions with their eligible leader replicas, in pages.

Behaviour: topics in name order; naming no topics means all. A page has at most ``response_partition_limit`` partitions
(never more than ``MAX_PARTITIONS``), and a cursor for the next page. A cursor below partition 0, or at a topic that is not
among the named ones, makes all named topics INVALID_REQUEST.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Set
from itertools import islice
from typing import TYPE_CHECKING

from tierlog.broker.handlers.metadata import TOPIC_OPERATIONS
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.errors import ErrorCode
from tierlog.metadata.image import TopicImage, offline_replicas
from tierlog.metadata.internal_topics import INTERNAL_TOPICS
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponseCursor,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

MAX_PARTITIONS = 2000
RUN = 2000  # names that are sorted in one step


def handle(
    services: Services, ctx: RequestContext, request: DescribeTopicPartitionsRequest
) -> Steps[DescribeTopicPartitionsResponse]:
    image, cursor = services.image, request.cursor
    named: set[str] = set()
    for asked in request.topics:
        named.add(asked.name)
        yield
    first_partition = 0
    if cursor is not None:
        if cursor.partition_index < 0 or (named and cursor.topic_name not in named):
            return refuse(request)
        first_partition = cursor.partition_index
    room = max(1, min(request.response_partition_limit, MAX_PARTITIONS))
    active = {broker.broker_id for broker in image.active_brokers()}
    offline_dirs = image.offline_dirs()
    response = DescribeTopicPartitionsResponse()
    for name in (yield from in_order(named or image.topics_by_name)):
        yield
        if cursor is not None and name < cursor.topic_name:
            continue
        if room == 0:
            response.next_cursor = DescribeTopicPartitionsResponseCursor(topic_name=name, partition_index=0)
            break
        topic = image.topic(name)
        if topic is None:
            response.topics.append(
                DescribeTopicPartitionsResponseTopic(
                    error_code=services.topic_creation.refusal(name),
                    name=name,
                    is_internal=name in INTERNAL_TOPICS,
                    topic_authorized_operations=TOPIC_OPERATIONS,
                )
            )
            continue
        start = first_partition if cursor is not None and name == cursor.topic_name else 0
        start = min(start, topic.partition_count)
        end = min(topic.partition_count, start + room)
        response.topics.append(describe(topic, active, offline_dirs, start, end))
        room -= end - start
        if end < topic.partition_count:
            response.next_cursor = DescribeTopicPartitionsResponseCursor(topic_name=name, partition_index=end)
            break
    return response


def in_order(names: Collection[str]) -> Steps[Iterator[str]]:
    """The names in order; sorted in steps of at most ``RUN`` names."""
    rest = iter(names)
    runs = []
    while run := sorted(islice(rest, RUN)):
        runs.append(run)
        yield
    return heapq.merge(*runs)


def refuse(request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse:
    topics = request.topics
    return DescribeTopicPartitionsResponse(
        topics=lazily(
            len(topics),
            lambda: (
                DescribeTopicPartitionsResponseTopic(error_code=ErrorCode.INVALID_REQUEST, name=topic.name)
                for topic in topics
            ),
        )
    )


def describe(
    topic: TopicImage, active: set[int], offline_dirs: Set[str], start: int, end: int
) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.name in INTERNAL_TOPICS,
        topic_authorized_operations=TOPIC_OPERATIONS,
        partitions=[
            DescribeTopicPartitionsResponsePartition(
                error_code=ErrorCode.NONE if state.leader in active else ErrorCode.LEADER_NOT_AVAILABLE,
                partition_index=index,
                leader_id=state.leader if state.leader in active else -1,
                leader_epoch=state.leader_epoch,
                replica_nodes=list(state.replicas),
                isr_nodes=list(state.isr),
                eligible_leader_replicas=list(state.elr),
                last_known_elr=list(state.last_eligible),
                offline_replicas=offline_replicas(state, active, offline_dirs),
            )
            for index, state in ((index, topic.partitions[index]) for index in range(start, end))
        ],
    )
