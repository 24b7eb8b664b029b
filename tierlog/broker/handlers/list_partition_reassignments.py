"""ListPartitionReassignments (key 46), version 0: the moves of partitions that are under way (KIP-455).

Behaviour: null topics mean all; partitions that do not exist, or are not being moved, are left out. Any broker answers
from its image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.metadata.control.reassignment import ongoing
from tierlog.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


def handle(
    services: Services, ctx: RequestContext, request: ListPartitionReassignmentsRequest
) -> Steps[ListPartitionReassignmentsResponse]:
    wanted = None
    if request.topics is not None:
        wanted = {}
        for topic in request.topics:
            if topic.name in services.image.topics_by_name:
                wanted[topic.name] = topic.partition_indexes
            yield
    response = ListPartitionReassignmentsResponse(error_message=None)
    for name, moving in ongoing(services.image, wanted):
        yield
        if not moving:
            continue
        rows = [
            OngoingPartitionReassignment(
                partition_index=partition,
                replicas=list(state.replicas),
                adding_replicas=list(state.adding),
                removing_replicas=list(state.removing),
            )
            for partition, state in moving
        ]
        response.topics.append(OngoingTopicReassignment(name=name, partitions=rows))
    return response
