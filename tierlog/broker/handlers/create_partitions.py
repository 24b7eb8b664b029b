"""CreatePartitions (key 37), versions 0-3: grows topics to a total count of partitions.

Behaviour: each topic succeeds or fails by itself; a count that is not larger is INVALID_PARTITIONS. When the answer
comes, the new partitions exist and have leaders. ``validate_only`` checks and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tierlog.broker.handlers.excess import ERROR, MESSAGE, distinct_names
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps, in_slices
from tierlog.metadata.control.topics import NewPartitions, TopicResult
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopicResult,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


async def handle(
    services: Services, ctx: RequestContext, request: CreatePartitionsRequest
) -> CreatePartitionsResponse:
    wanted = []
    async for topic in in_slices(request.topics):
        assignments = None
        if topic.assignments is not None:
            assignments = [assignment.broker_ids for assignment in topic.assignments]
        wanted.append(NewPartitions(topic.name, topic.count, assignments))
    results = await services.admin.create_partitions(
        wanted, validate_only=request.validate_only, timeout_ms=request.timeout_ms
    )
    await services.replicas.settled()
    return CreatePartitionsResponse(results=lazily(len(results), lambda: map(answer, results)))


def answer(result: TopicResult) -> CreatePartitionsTopicResult:
    return CreatePartitionsTopicResult(
        name=result.name, error_code=result.error, error_message=result.message
    )


def items(request: CreatePartitionsRequest) -> Iterator[int]:
    yield len(request.topics)
    for topic in request.topics:
        yield len(topic.assignments or ())
        yield sum([len(asked.broker_ids) for asked in topic.assignments or ()])


def refuse(request: CreatePartitionsRequest) -> Steps[CreatePartitionsResponse]:
    names = yield from distinct_names(request.topics)
    return CreatePartitionsResponse(
        results=lazily(
            len(names),
            lambda: (
                CreatePartitionsTopicResult(name=name, error_code=ERROR, error_message=MESSAGE)
                for name in names
            ),
        )
    )
