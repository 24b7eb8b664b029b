"""DescribeProducers (key 61), version 0: the producers that a partition remembers (KIP-664).

Behaviour: only the leader answers. Without an open transaction a producer's transaction start offset is -1.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.errors import ErrorCode
from tierlog.metadata.control.topics import topic_name_problem
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicRequest,
    TopicResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services
    from tierlog.log.producers.state import ProducerEntry

ANY_LEADER_EPOCH = -1


def handle(
    services: Services, ctx: RequestContext, request: DescribeProducersRequest
) -> DescribeProducersResponse:
    topics = request.topics
    # A partition may have a hundred thousand producers, and a request may name it again and again.
    return DescribeProducersResponse(
        topics=lazily(
            len(topics),
            lambda: (
                TopicResponse(
                    name=topic.name,
                    partitions=lazily(len(topic.partition_indexes), partial(_rows, services, topic)),
                )
                for topic in topics
            ),
        )
    )


def _rows(services: Services, topic: TopicRequest) -> Iterator[PartitionResponse]:
    for index in topic.partition_indexes:
        yield _row(services, topic.name, index)


def _row(services: Services, topic: str, index: int) -> PartitionResponse:
    partition = services.replicas.by_name(topic, index)
    if isinstance(partition, ErrorCode):
        problem = topic_name_problem(topic)
        if problem is not None:
            return _refused(index, ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
        if services.image.topic(topic) is None:
            return _refused(index, partition, f"There is no topic named {topic}.")
        return _refused(index, partition, None)
    error = partition.check_leadership(ANY_LEADER_EPOCH)
    if error is not ErrorCode.NONE:
        return _refused(index, error, None)
    entries = list(partition.log.producers.entries())
    return PartitionResponse(
        partition_index=index,
        active_producers=lazily(len(entries), lambda: map(_producer, entries)),
    )


def _producer(entry: ProducerEntry) -> ProducerState:
    return ProducerState(
        producer_id=entry.producer_id,
        producer_epoch=entry.producer_epoch,
        last_sequence=entry.batches[-1].last_sequence if entry.batches else -1,
        last_timestamp=entry.last_timestamp,
        coordinator_epoch=entry.coordinator_epoch,
        current_txn_start_offset=entry.txn_first_offset,
    )


def _refused(index: int, error: ErrorCode, message: str | None) -> PartitionResponse:
    return PartitionResponse(partition_index=index, error_code=error, error_message=message)
