"""A produce with acks=all whose records are not committed yet: one object from its append to its reply.

It is the reply's place in its connection (``network.places``), what waits at its partitions (``replication.waiters``), and
what the wheel of deadlines knows (``work.deadlines``). The answer is made before the wait, as if all were committed then;
only where something fails is it made anew, with the current leaders as of that moment. Whoever makes one, the handler or
the kernel, calls ``ProduceWaits.wait`` and gives what it returns to ``keep_place`` of the connection.

Rule: when it ends it leaves no deadline and no live waiter behind, whatever ended it: the last commit, an error, its
deadline, or its client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from tierlog.broker.cluster.leader_hints import hint_produce
from tierlog.broker.network.frames import SIZE_PREFIX_BYTES
from tierlog.broker.network.places import WaitingReply
from tierlog.broker.work.deadlines import Deadlines
from tierlog.errors import ErrorCode
from tierlog.types import Buffer
from tierlog.wire.codec import decode_exact, encode
from tierlog.wire.framing import decode_response_header, encode_response
from tierlog.wire.messages.produce import PartitionProduceResponse, ProduceResponse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from tierlog.broker.replicas.partition import Partition
    from tierlog.metadata.image import MetadataImage
    from tierlog.telemetry.requests import RequestMetrics

PRODUCE_KEY = 0

# A batch that waits: its partition, its end offset (exclusive), and the number of its answer in the request, from 0.
Batch: TypeAlias = "tuple[Partition, int, int]"


class Told(Protocol):
    """Whoever waits for the answer: a connection, or a handler that goes on with it."""

    @property
    def listener_name(self) -> str: ...

    def answered(self, place: WaitingProduce) -> None:
        """The answer is there. Only note it: this is a step of somebody else's request."""


class ProduceWaits:
    """What all waiting produces of a broker share."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        requests: RequestMetrics,
        broker_id: int,
        image: Callable[[], MetadataImage],
    ) -> None:
        self.loop = loop
        self.deadlines = Deadlines(loop)
        self.recorder = requests.by_key[PRODUCE_KEY]
        self.broker_id = broker_id
        self.image = image

    def wait(
        self,
        told: Told,
        version: int,
        correlation_id: int,
        arrival_s: float,
        timeout_ms: int,
        batches: list[Batch],
        answer: list[Buffer] | ProduceResponse,
        has_failed: bool = False,
    ) -> WaitingProduce:
        """``batches``: at least one, appended in this step of the loop. ``answer``: the framed reply where ``told`` is a
        connection, else the response. ``has_failed``: there are errors in it already."""
        place = WaitingProduce(self, told, version, correlation_id, arrival_s, batches, answer, has_failed)
        place.slot = self.deadlines.add(place, self.loop.time() + timeout_ms / 1000)
        for partition, end_offset, number in batches:
            partition.acknowledgements.park(end_offset, place, number)
        return place


class WaitingProduce(WaitingReply):
    """See the module head."""

    __slots__ = (
        "_answer",
        "_arrival_s",
        "_batches",
        "_correlation_id",
        "_errors",
        "_has_failed",
        "_missing",
        "_told",
        "_version",
        "_waits",
        "has_ended",
        "slot",
    )

    def __init__(
        self,
        waits: ProduceWaits,
        told: Told,
        version: int,
        correlation_id: int,
        arrival_s: float,
        batches: list[Batch],
        answer: list[Buffer] | ProduceResponse,
        has_failed: bool,
    ) -> None:
        self._waits = waits
        self._told = told
        self._version = version
        self._correlation_id = correlation_id
        self._arrival_s = arrival_s
        self._batches = batches
        self._answer = answer
        self._has_failed = has_failed
        # The numbers of those that are not committed; None while the only one is not.
        self._missing = None if len(batches) == 1 else {batch[2] for batch in batches}
        self._errors: dict[int, ErrorCode] | None = None
        self.buffers = None
        self.held_bytes = 0
        self.has_ended = False
        self.slot = -1

    # -- what ends the wait

    def on_committed(self, number: int, error: ErrorCode) -> None:
        """The batch of this number is committed, or cannot be. Told by its partition, which has let go of it."""
        if self.has_ended:
            return
        if error:
            self._fail(number, error)
        missing = self._missing
        if missing is not None:
            missing.discard(number)
            if missing:
                return
        self._waits.deadlines.discard(self, self.slot)
        self._end()

    def on_deadline(self) -> None:
        """Answers REQUEST_TIMED_OUT for what is not committed; the records may still become visible."""
        for partition, _, number in self._still():
            self._fail(number, ErrorCode.REQUEST_TIMED_OUT)
            partition.acknowledgements.note_ended()
        self._end()

    def leave(self) -> None:
        """The client is gone: nobody waits any more."""
        if not self.has_ended:
            self.has_ended = True
            self._waits.deadlines.discard(self, self.slot)
            for partition, _, _ in self._still():
                partition.acknowledgements.note_ended()

    def _still(self) -> list[Batch]:
        missing = self._missing
        return self._batches if missing is None else [each for each in self._batches if each[2] in missing]

    def _fail(self, number: int, error: ErrorCode) -> None:
        if self._errors is None:
            self._errors = {}
        self._errors[number] = error

    def _end(self) -> None:
        self.has_ended = True
        if self._has_failed or self._errors is not None:
            self._answer = self._failed()
        self._told.answered(self)

    # -- the answer

    def take_buffers(self) -> list[Buffer]:
        """The framed reply, once the wait has ended; for a connection."""
        assert isinstance(self._answer, list)
        waits = self._waits
        waits.recorder.record(self._version, waits.loop.time() - self._arrival_s)
        return self._answer

    @property
    def response(self) -> ProduceResponse:
        """The response, once the wait has ended; for a handler."""
        assert isinstance(self._answer, ProduceResponse)
        return self._answer

    def _failed(self) -> list[Buffer] | ProduceResponse:
        answer = self._answer
        response = answer if isinstance(answer, ProduceResponse) else _decoded(answer, self._version)
        if self._errors is not None:
            entries = [entry for topic in response.responses for entry in topic.partition_responses]
            for number, error in self._errors.items():
                fail(entries[number], error)
        waits = self._waits
        hint_produce(waits.image(), waits.broker_id, self._version, self._told.listener_name, response)
        return response if response is answer else framed(response, self._version, self._correlation_id)


def framed(response: ProduceResponse, version: int, correlation_id: int) -> list[Buffer]:
    return encode_response(PRODUCE_KEY, version, correlation_id, encode(response, version))


def _decoded(buffers: list[Buffer], version: int) -> ProduceResponse:
    frame = b"".join(buffers)[SIZE_PREFIX_BYTES:]
    _, offset = decode_response_header(PRODUCE_KEY, version, frame)
    return decode_exact(ProduceResponse, version, frame, offset)


def fail(entry: PartitionProduceResponse, error: ErrorCode) -> None:
    entry.error_code = error
    entry.base_offset = -1
    entry.log_append_time_ms = -1
    entry.log_start_offset = -1
