"""ElectLeaders (key 43), versions 0-2: elections on request (KIP-183, KIP-460).

Behaviour: null topics mean all partitions; the answer then leaves out those that already had the wanted leader. For a
partition without a leader, an unclean election makes a replica lead that may have lost data.

Versions: unclean elections, and an error for the whole request, from 1 on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tierlog.broker.handlers.excess import ERROR, MESSAGE
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import in_slices
from tierlog.errors import ErrorCode
from tierlog.metadata.control.leadership import Election, ElectionType, all_elections
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
    TopicPartitions,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


async def handle(
    services: Services, ctx: RequestContext, request: ElectLeadersRequest
) -> ElectLeadersResponse:
    if request.topic_partitions is not None and not request.topic_partitions:
        return ElectLeadersResponse()
    if request.election_type not in ElectionType.__members__.values():
        error, message = ErrorCode.INVALID_REQUEST, f"Unknown election type {request.election_type}"
        return _refused(request, error, message, error)
    kind = ElectionType(request.election_type)
    if request.topic_partitions is None:
        elections = all_elections(services.image)
    else:
        named = ((row.topic, n) for row in request.topic_partitions for n in row.partitions)
        elections = [Election(topic, n) async for topic, n in in_slices(named)]
    results = await services.admin.elect_leaders(elections, kind, timeout_ms=request.timeout_ms)
    response = ElectLeadersResponse()
    if any(result.error is ErrorCode.NOT_CONTROLLER for result in results):
        response.error_code = ErrorCode.NOT_CONTROLLER
    names = [row.topic for row in request.topic_partitions or ()] or [
        election.topic for election in elections
    ]
    topics = {name: ReplicaElectionResult(topic=name) for name in names}
    response.replica_election_results = list(topics.values())
    async for result in in_slices(results):
        if request.topic_partitions is None and result.error is ErrorCode.ELECTION_NOT_NEEDED:
            continue
        topics[result.topic].partition_result.append(
            PartitionResult(
                partition_id=result.partition, error_code=result.error, error_message=result.message
            )
        )
    return response


def _refused(
    request: ElectLeadersRequest, error: ErrorCode, message: str, top_level: ErrorCode = ErrorCode.NONE
) -> ElectLeadersResponse:
    topics = request.topic_partitions or []

    def row(topic: TopicPartitions) -> ReplicaElectionResult:
        return ReplicaElectionResult(
            topic=topic.topic,
            partition_result=lazily(
                len(topic.partitions),
                lambda: (
                    PartitionResult(partition_id=n, error_code=error, error_message=message)
                    for n in topic.partitions
                ),
            ),
        )

    return ElectLeadersResponse(
        error_code=top_level, replica_election_results=lazily(len(topics), lambda: map(row, topics))
    )


def items(request: ElectLeadersRequest) -> Iterator[int]:
    yield len(request.topic_partitions or ())
    for topic in request.topic_partitions or ():
        yield len(topic.partitions)


def refuse(request: ElectLeadersRequest) -> ElectLeadersResponse:
    return _refused(request, ERROR, MESSAGE)
