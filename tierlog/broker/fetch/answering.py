"""Builds the answer of a Fetch from what its look has found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tierlog.broker.cluster.leader_hints import FETCH_SINCE, hint_fetch
from tierlog.broker.fetch.partition_read import PartitionRead
from tierlog.broker.fetch.sessions import FetchContext, is_news
from tierlog.broker.network.context import RequestContext
from tierlog.wire.messages.fetch import FetchableTopicResponse, FetchResponse

if TYPE_CHECKING:
    from tierlog.broker.fetch.parts import FetchParts


class Told(Protocol):
    """What consumers and followers do differently when they are answered."""

    def settle(self, read: PartitionRead) -> None:
        """Sets what the answer says of a partition that has an error."""

    def remember_quiet(self, read: PartitionRead) -> None:
        """The answer leaves this partition out, since it has no news; the session may skip it from now on."""

    def count(self, read: PartitionRead) -> None:
        """Counts the bytes that are sent."""


class Answer:
    """One answer that is being built, partition by partition."""

    __slots__ = ("_context", "_has_errors", "_response", "_told", "_topics")

    def __init__(self, context: FetchContext, told: Told) -> None:
        self._context = context
        self._told = told
        self._response = FetchResponse(session_id=context.session_id)
        self._topics: dict[bytes | str, FetchableTopicResponse] = {}
        self._has_errors = False

    def add(self, read: PartitionRead) -> None:
        """Adds one partition if it has news."""
        context, told, asked = self._context, self._told, read.asked
        has_data = read.size_bytes > 0
        if read.error and read.partition is not None:
            told.settle(read)
        news = is_news(
            asked,
            has_data or read.diverging is not None or read.preferred_replica >= 0,
            read.error,
            read.high_watermark,
            read.log_start_offset,
        )
        if context.is_incremental and not news:
            told.remember_quiet(read)
            return
        if has_data:
            told.count(read)
            # The answer of a large session is built in steps: the partition may have left the session meanwhile.
            session = context.session
            if session is not None and context.is_incremental and session.partitions.get(asked.key) is asked:
                session.put_last(asked)
        name = asked.key[0]
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = FetchableTopicResponse(topic=asked.topic, topic_id=asked.topic_id)
            self._response.responses.append(topic)
        topic.partitions.append(read.told())
        self._has_errors |= read.error != 0

    def finish(self, parts: FetchParts, ctx: RequestContext) -> FetchResponse:
        """The whole answer, with the leaders of partitions that are led elsewhere (KIP-951)."""
        if self._has_errors and ctx.api_version >= FETCH_SINCE:
            hint_fetch(parts.image, parts.broker_id, ctx.listener, self._response)
        return self._response
