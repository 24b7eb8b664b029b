"""A Fetch of very many partitions: the same steps, but in slices that let other requests in between (see ``slices``).

Rules: each partition is read in one step, and answered as it was read then. The steps end with their client. A consumer's
fetch of few partitions never comes here. Nor does a follower's fetch: it names 500 partitions at most, and its watch knows
which of the others have news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tierlog.broker.fetch.answering import Answer
from tierlog.broker.fetch.consumer_fetch import ConsumerSide
from tierlog.broker.fetch.fetching import Fetch
from tierlog.broker.fetch.sessions import FetchContext, FetchedPartition, FetchKey, requested
from tierlog.broker.network.context import RequestContext
from tierlog.broker.network.rows import WIDE
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.broker.work.freeing import free, long_lists
from tierlog.broker.work.slices import Steps
from tierlog.wire.messages.fetch import FetchRequest, FetchResponse

if TYPE_CHECKING:
    from tierlog.broker.fetch.parts import FetchParts

CHUNK = 32


def names_many(request: FetchRequest) -> bool:
    topics = request.topics
    return len(topics) > WIDE or sum([len(topic.partitions) for topic in topics]) > WIDE


def fetch_many(
    parts: FetchParts, ctx: RequestContext, request: FetchRequest
) -> Steps[FetchResponse | DelayedResponse[FetchResponse]]:
    """The whole request of a consumer that names many partitions."""
    named: dict[FetchKey, FetchedPartition] = {}
    for partition in requested(request):
        named[partition.key] = partition
        yield
    partitions = list(named.values())
    yield
    del named
    yield
    sessions = parts.fetch_sessions
    context = sessions.resolve(request, ctx.api_version, parts.loop.time(), partitions)
    if context.error:
        return FetchResponse(error_code=context.error)
    # ``context`` holds the partitions from here on. The request's lists are freed in steps, not at once with the Fetch.
    lists = yield from long_lists(request)
    request.topics = []
    yield from free(lists)
    return (yield from WideFetch(parts, ctx, request, context).steps())


class SteppedSide(ConsumerSide):
    """As for any consumer, but ``WideFetch`` looks again by itself, in steps."""

    __slots__ = ()

    def read_again(self, fetch: Fetch) -> None:
        """``WideFetch.finish`` reads again."""


class WideFetch(Fetch):
    """One request. Call ``steps`` instead of ``start``."""

    __slots__ = ("_consumer", "_ctx")

    def __init__(
        self, parts: FetchParts, ctx: RequestContext, request: FetchRequest, context: FetchContext
    ) -> None:
        self._ctx = ctx
        self._consumer = SteppedSide(parts, ctx, request, context)
        super().__init__(parts, self._consumer, request, context)

    def steps(self) -> Steps[FetchResponse | DelayedResponse[FetchResponse]]:
        if self._consumer.has_to_wait:
            later = self.future_answer()
            self._await_memory()
            return later
        response = yield from self._first_look()
        return self.future_answer() if response is None else response

    def _begin(self) -> FetchResponse | None:
        self._complete_with(self._first_look())
        return None

    def _first_look(self) -> Steps[FetchResponse | None]:
        yield from self._read_all()
        if self.look.is_ready(self._max_wait_ms):
            return (yield from self._tell_all())
        self.go_on()
        return None

    def _read_all(self) -> Steps[None]:
        look, consumer = self.look, self._consumer
        look.begin()
        partitions = consumer.to_look_at()
        unknown_count = 0
        for start in range(0, len(partitions), CHUNK):
            unknown_count += look.over(partitions[start : start + CHUNK], consumer.read_one)
            yield
        look.note_unknown(unknown_count, len(consumer.context.partitions))

    def _tell_all(self) -> Steps[FetchResponse]:
        context, reads = self._consumer.context, self.look.reads
        answer = Answer(context, self._consumer)
        for asked in list(reads):
            read = reads.pop(asked)
            answer.add(read)
            self._consumer.answered(read)
            yield
        if context.session is None:  # a session keeps its partitions
            asked_lists: list[list[object]] = [cast("list[object]", context.partitions)]
            yield from free(asked_lists)
        return answer.finish(self.parts, self._ctx)

    def finish(self) -> None:
        self._unpark()
        self._complete_with(self._again())

    def _conclude(self) -> None:
        self._complete_with(self._tell_all())

    def _again(self) -> Steps[FetchResponse | None]:
        yield from self._read_all()
        if self.look.has_slow_reads():
            self._read_slowly()
            return None
        return (yield from self._tell_all())

    def _complete_with(self, steps: Steps[FetchResponse | None] | Steps[FetchResponse]) -> None:
        future = self.future
        assert future is not None

        def done(work: DelayedResponse[FetchResponse | None]) -> None:
            if future.done() or work.cancelled():
                return
            error = work.exception()
            if error is not None:
                future.set_exception(error)
                return
            response = work.result()
            if response is not None:
                future.set_result(response)

        work = self.parts.slices.later(steps)
        work.add_done_callback(done)

        def ended(answered: DelayedResponse[FetchResponse]) -> None:
            work.cancel()  # the client may have left: then nothing of it is done any more

        future.add_done_callback(ended)
