"""DeleteTopics (key 20), versions 1-6: by name, or by name or id from 6 on.

Behaviour: each topic succeeds or fails by itself. An answered topic is gone from metadata; its local data is unlinked
after ``file.delete.delay.ms``, its remote objects after their grace. A topic named twice, or by both name and id, is
INVALID_REQUEST. ``delete.topic.enable=false`` is TOPIC_DELETION_DISABLED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierlog.broker.context import RequestContext
from tierlog.errors import ErrorCode
from tierlog.wire.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
)
from tierlog.wire.schema import ZERO_UUID

if TYPE_CHECKING:
    from tierlog.broker.services import Services


async def handle(
    services: Services, ctx: RequestContext, request: DeleteTopicsRequest
) -> DeleteTopicsResponse:
    asked: list[tuple[str | None, bytes]] = [(name, ZERO_UUID) for name in request.topic_names]
    asked += [(topic.name, topic.topic_id) for topic in request.topics]
    response = DeleteTopicsResponse()
    entries: dict[bytes, DeletableTopicResult] = {}
    for name, topic_id in asked:
        entry = DeletableTopicResult(name=name, topic_id=topic_id)
        response.responses.append(entry)
        error = resolve(services, entry, asked)
        if not error and entry.topic_id in entries:
            error = ErrorCode.INVALID_REQUEST
        if error:
            entry.error_code = error
        else:
            entries[entry.topic_id] = entry
    results = await services.admin.delete_topics(list(entries), timeout_ms=request.timeout_ms)
    for result in results:
        entry = entries[result.topic_id]
        entry.error_code, entry.error_message = result.error, result.message
    return response


def resolve(
    services: Services, entry: DeletableTopicResult, asked: list[tuple[str | None, bytes]]
) -> ErrorCode:
    """Fills in the name or the id that the request left out."""
    image = services.image
    by_id = entry.topic_id != ZERO_UUID
    if asked.count((entry.name, entry.topic_id)) > 1 or by_id == (entry.name is not None):
        return ErrorCode.INVALID_REQUEST
    topic = image.topics_by_id.get(entry.topic_id) if by_id else image.topic(entry.name or "")
    if topic is None:
        return ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    entry.name, entry.topic_id = topic.name, topic.topic_id
    return ErrorCode.NONE
