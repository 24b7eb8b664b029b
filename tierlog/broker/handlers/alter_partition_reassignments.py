"""AlterPartitionReassignments (key 45), versions 0-1: begins, changes or cancels moves of partitions (KIP-455).

Behaviour: each partition succeeds or fails by itself; null replicas cancel a move under way. The answer comes when the
moves have begun. The new replicas then copy, and a move completes by itself when they are in sync.

Versions: from 1 on a change of the replication factor may be forbidden (KIP-860).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tierlog.broker.handlers.excess import ERROR, MESSAGE
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import in_slices
from tierlog.errors import ErrorCode
from tierlog.metadata.control.reassignment import Reassignment
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopic,
    ReassignableTopicResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


async def handle(
    services: Services, ctx: RequestContext, request: AlterPartitionReassignmentsRequest
) -> AlterPartitionReassignmentsResponse:
    if not request.topics:
        return AlterPartitionReassignmentsResponse()
    wishes = [
        Reassignment(
            topic.name, part.partition_index, None if part.replicas is None else tuple(part.replicas)
        )
        async for topic, part in in_slices((t, p) for t in request.topics for p in t.partitions)
    ]
    allowed = request.allow_replication_factor_change
    results = await services.admin.reassign_partitions(
        wishes, allow_replication_factor_change=allowed, timeout_ms=request.timeout_ms
    )
    response = AlterPartitionReassignmentsResponse(
        error_message=None, allow_replication_factor_change=allowed
    )
    if any(result.error is ErrorCode.NOT_CONTROLLER for result in results):
        response.error_code, response.error_message = results[0].error, results[0].message
        return response
    by_partition = {(result.topic, result.partition): result for result in results}
    async for topic in in_slices(request.topics):
        rows = ReassignableTopicResponse(name=topic.name)
        response.responses.append(rows)
        async for part in in_slices(topic.partitions):
            result = by_partition[topic.name, part.partition_index]
            rows.partitions.append(
                ReassignablePartitionResponse(
                    partition_index=result.partition, error_code=result.error, error_message=result.message
                )
            )
    return response


def items(request: AlterPartitionReassignmentsRequest) -> Iterator[int]:
    yield len(request.topics)
    for topic in request.topics:
        yield len(topic.partitions)
        yield sum([len(part.replicas or ()) for part in topic.partitions])


def refuse(request: AlterPartitionReassignmentsRequest) -> AlterPartitionReassignmentsResponse:
    topics = request.topics

    def row(topic: ReassignableTopic) -> ReassignableTopicResponse:
        return ReassignableTopicResponse(
            name=topic.name,
            partitions=lazily(
                len(topic.partitions),
                lambda: (
                    ReassignablePartitionResponse(
                        partition_index=part.partition_index, error_code=ERROR, error_message=MESSAGE
                    )
                    for part in topic.partitions
                ),
            ),
        )

    return AlterPartitionReassignmentsResponse(
        error_message=None,
        allow_replication_factor_change=request.allow_replication_factor_change,
        responses=lazily(len(topics), lambda: map(row, topics)),
    )
