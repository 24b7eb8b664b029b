"""DeleteTopics (key 20), versions 1-6: by name, or by name or id from 6 on.

Behaviour: each topic succeeds or fails by itself. When the answer comes, the topic is gone from metadata; its local data is
unlinked after ``file.delete.delay.ms``, its remote objects after their grace. A topic named twice, or by both name and id,
is INVALID_REQUEST and stays. The answers are in no particular order. ``delete.topic.enable=false`` is
TOPIC_DELETION_DISABLED.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tierlog.broker.handlers.excess import ERROR, MESSAGE
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import in_slices
from tierlog.errors import ErrorCode
from tierlog.metadata.image import MetadataImage
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
)
from tierlog.wire.schema import ZERO_UUID

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


UNKNOWN_NAME = "This server does not host this topic-partition."
UNKNOWN_ID = "This server does not host this topic ID."


async def handle(
    services: Services, ctx: RequestContext, request: DeleteTopicsRequest
) -> DeleteTopicsResponse:
    asked: list[tuple[str | None, bytes]] = [(name, ZERO_UUID) for name in request.topic_names]
    asked += [(topic.name, topic.topic_id) for topic in request.topics]
    response = DeleteTopicsResponse()
    entries: dict[bytes, DeletableTopicResult] = {}
    # Ids before names, so that each name is compared with the topics of all ids.
    counted = sorted(Counter(asked).items(), key=lambda row: row[0][0] is not None)
    async for (name, topic_id), count in in_slices(counted):
        message = problem(name, topic_id, count)
        if message is not None:
            times = 1 if message.startswith("Duplicate") else count
            response.responses += [
                refused(name, topic_id, ErrorCode.INVALID_REQUEST, message) for _ in range(times)
            ]
            continue
        entry = resolve(services.image, name, topic_id)
        if not entry.error_code and entry.topic_id in entries:
            entry = entries.pop(entry.topic_id)
            entry.error_code = ErrorCode.INVALID_REQUEST
            entry.error_message = "The provided topic name maps to an ID that was already supplied."
            continue
        response.responses.append(entry)
        if not entry.error_code:
            entries[entry.topic_id] = entry
    results = await services.admin.delete_topics(list(entries), timeout_ms=request.timeout_ms)
    async for result in in_slices(results):
        entry = entries[result.topic_id]
        entry.error_code, entry.error_message = result.error, result.message
    return response


def problem(name: str | None, topic_id: bytes, count: int) -> str | None:
    """The error in how the request names a topic, if any, before the topic is looked up."""
    by_id = topic_id != ZERO_UUID
    if name is None and not by_id:
        return "Neither topic name nor id were specified."
    if name is not None and by_id:
        return "You may not specify both topic name and topic id."
    if count > 1:
        return "Duplicate topic id." if by_id else "Duplicate topic name."
    return None


def resolve(image: MetadataImage, name: str | None, topic_id: bytes) -> DeletableTopicResult:
    """The answer's entry for one topic, with both its name and its id if it exists."""
    topic = image.topics_by_id.get(topic_id) if name is None else image.topic(name)
    if topic is not None:
        return DeletableTopicResult(name=topic.name, topic_id=topic.topic_id)
    if name is None:
        return refused(name, topic_id, ErrorCode.UNKNOWN_TOPIC_ID, UNKNOWN_ID)
    return refused(name, topic_id, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_NAME)


def refused(name: str | None, topic_id: bytes, error: ErrorCode, message: str) -> DeletableTopicResult:
    return DeletableTopicResult(name=name, topic_id=topic_id, error_code=error, error_message=message)


def items(request: DeleteTopicsRequest) -> Iterator[int]:
    yield len(request.topics) + len(request.topic_names)


def refuse(request: DeleteTopicsRequest) -> DeleteTopicsResponse:
    names, topics = request.topic_names, request.topics

    def rows() -> Iterator[DeletableTopicResult]:
        for name in names:
            yield refused(name, ZERO_UUID, ERROR, MESSAGE)
        for topic in topics:
            yield refused(topic.name, topic.topic_id, ERROR, MESSAGE)

    return DeleteTopicsResponse(responses=lazily(len(names) + len(topics), rows))
