"""Incremental fetch sessions (KIP-227): the broker remembers a fetcher's partitions, so that requests name only changes.

Rules, as Kafka's:

* session epoch 0 opens a session if there is room; epoch -1 ends it, and so does forgetting its last partition;
* if a request names a partition twice, the last entry counts;
* a session answers only partitions that have data, an error, or whose watermarks changed since they were last told;
* a partition with data in an incremental answer moves to the end of the order, so that none starves under ``max_bytes``;
* a session is keyed by topic ids or by names for its whole life (KIP-516).

Bounds: ``max.incremental.fetch.session.cache.slots`` sessions, ``MAX_SESSION_PARTITIONS`` partitions in each and
``MAX_PARTITIONS`` in all. When all slots are taken, a new session evicts the least recently used one, if that has been
idle for ``MIN_EVICTION_IDLE_S``; else the new fetcher is served without a session. A fetch that names too many partitions
is served without a session too. A session that grows too large is closed with FETCH_SESSION_ID_NOT_FOUND.
No I/O and no clock: the caller passes ``now_s`` and the source of randomness.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from tierlog.errors import ErrorCode
from tierlog.replication.fetch_schedule import INITIAL_EPOCH, NO_SESSION_ID, next_session_epoch
from tierlog.replication.progress import Presence
from tierlog.wire.messages.fetch import FetchRequest

if TYPE_CHECKING:
    from tierlog.broker.replicas.partition import Partition

MIN_EVICTION_IDLE_S = 120.0
MAX_SESSION_PARTITIONS = 10_000
# Some 600 bytes each.
MAX_PARTITIONS = 200_000
LARGE_COUNT = 20_000
LARGE_WAIT_MS = 500
FINAL_EPOCH = -1
ZERO_UUID = bytes(16)

FetchKey: TypeAlias = "tuple[bytes | str, int]"


class FetchedPartition:
    """One partition of a fetch: what the request asks, and what the fetcher was last told (``sent_*``; -1: nothing)."""

    __slots__ = (
        "current_leader_epoch",
        "fetch_offset",
        "last_fetched_epoch",
        "log_start_offset",
        "max_bytes",
        "partition",
        "place",
        "quiet_at",
        "quiet_changes",
        "sent_high_watermark",
        "sent_log_start_offset",
        "topic",
        "topic_id",
        "watched_at",
    )

    def __init__(self, topic: str, topic_id: bytes, partition: int) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self.fetch_offset = 0
        self.max_bytes = 0
        self.current_leader_epoch = -1
        self.last_fetched_epoch = -1
        self.log_start_offset = -1
        self.sent_high_watermark = -1
        self.sent_log_start_offset = -1
        # The partition, if the fetcher has read it to the end and was told all, and its change counter at that time.
        self.quiet_at: Partition | None = None
        self.quiet_changes = -1
        # Where the session's watch is registered for it.
        self.watched_at: Partition | None = None
        # Grows along the session's order.
        self.place = 0

    @property
    def key(self) -> FetchKey:
        return (self.topic_id if self.topic_id != ZERO_UUID else self.topic, self.partition)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has changed since the fetcher reached this partition's end and was told all."""
        partition = self.quiet_at
        return (
            partition is not None
            and partition.changes == self.quiet_changes
            and partition.log.log_start_offset == self.sent_log_start_offset
        )


class Watch(Protocol):
    """What keeps ``FetchSession.stirred``."""

    def forget(self, asked: FetchedPartition) -> None:
        """The partition has left the session."""

    def close(self) -> None:
        """The session has ended."""


class FetchSession:
    """``epoch``: the session epoch that the next request must carry. ``stirred``: the partitions that its next fetch has to
    look at (None: all of them). Only a consumer's session has a ``watch``, only a follower's ``presence``."""

    __slots__ = (
        "_last_place",
        "epoch",
        "last_used_s",
        "partitions",
        "presence",
        "session_id",
        "stirred",
        "uses_topic_ids",
        "watch",
    )

    def __init__(self, session_id: int, uses_topic_ids: bool, now_s: float) -> None:
        self.session_id = session_id
        self.uses_topic_ids = uses_topic_ids
        self.epoch = 1
        self.partitions: OrderedDict[FetchKey, FetchedPartition] = OrderedDict()
        self.last_used_s = now_s
        self.presence: Presence | None = None
        self.stirred: dict[FetchedPartition, None] | None = None
        self.watch: Watch | None = None
        self._last_place = 0

    def put_last(self, asked: FetchedPartition) -> None:
        """Adds the partition, or moves it to the end of the order."""
        self._last_place += 1
        asked.place = self._last_place
        self.partitions[asked.key] = asked
        self.partitions.move_to_end(asked.key)

    def advance_epoch(self) -> None:
        self.epoch = next_session_epoch(self.epoch)


class FetchContext(NamedTuple):
    """The partitions that one Fetch request asks for, in full, as the session has them now if it is incremental. ``session``
    is None for a sessionless fetch."""

    error: ErrorCode
    session: FetchSession | None
    partitions: Collection[FetchedPartition]
    is_incremental: bool

    @property
    def session_id(self) -> int:
        return self.session.session_id if self.session else NO_SESSION_ID

    def wait_ms(self, max_wait_ms: int) -> int:
        """How long the fetch may park: a parked fetch holds half a kilobyte per partition, so a large one waits less."""
        return max_wait_ms if len(self.partitions) <= LARGE_COUNT else min(max_wait_ms, LARGE_WAIT_MS)


def requested(request: FetchRequest) -> Iterator[FetchedPartition]:
    """The partitions that the request itself names."""
    for topic in request.topics:
        for asked in topic.partitions:
            partition = FetchedPartition(topic.topic or "", topic.topic_id, asked.partition)
            partition.fetch_offset = asked.fetch_offset
            partition.max_bytes = asked.partition_max_bytes
            partition.current_leader_epoch = asked.current_leader_epoch
            partition.last_fetched_epoch = asked.last_fetched_epoch
            partition.log_start_offset = asked.log_start_offset
            yield partition


class FetchSessions:
    """The session cache of one broker."""

    def __init__(self, slots: int, new_id: Callable[[], int]) -> None:
        self._slots = slots
        self._new_id = new_id
        self._sessions: OrderedDict[int, FetchSession] = OrderedDict()
        self.evicted_count = 0

    @property
    def table(self) -> OrderedDict[int, FetchSession]:
        """By session id, the least recently used first: for the kernel, which does what ``resolve`` does."""
        return self._sessions

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def partition_count(self) -> int:
        return sum(len(session.partitions) for session in self._sessions.values())

    def resolve(
        self,
        request: FetchRequest,
        version: int,
        now_s: float,
        named: list[FetchedPartition] | None = None,
    ) -> FetchContext:
        """Applies the request to its session and returns all partitions that it asks for. ``named``: the partitions that
        the request names, each once, if the caller has listed them already."""
        uses_topic_ids = version >= 13
        if request.session_epoch in (INITIAL_EPOCH, FINAL_EPOCH) or version < 7:
            if request.session_id != NO_SESSION_ID:
                self._end(request.session_id)
            partitions = list(requested(request)) if named is None else named
            if len(partitions) > 1 and named is None:
                partitions = list({partition.key: partition for partition in partitions}.values())
            session = None
            if version >= 7 and request.session_epoch == INITIAL_EPOCH:
                session = self._open(partitions, uses_topic_ids, now_s)
            return FetchContext(ErrorCode.NONE, session, partitions, False)
        session = self._sessions.get(request.session_id)
        if session is None:
            return FetchContext(ErrorCode.FETCH_SESSION_ID_NOT_FOUND, None, [], True)
        if request.session_epoch != session.epoch:
            return FetchContext(ErrorCode.INVALID_FETCH_SESSION_EPOCH, None, [], True)
        if session.uses_topic_ids != uses_topic_ids:
            return FetchContext(ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR, None, [], True)
        session.advance_epoch()
        session.last_used_s = now_s
        self._sessions.move_to_end(session.session_id)
        if request.topics or request.forgotten_topics_data:
            had = len(session.partitions)
            self._update(session, request, named)
            grew = len(session.partitions) > had
            if grew and (
                len(session.partitions) > MAX_SESSION_PARTITIONS or self.partition_count > MAX_PARTITIONS
            ):
                self._end(session.session_id)
                return FetchContext(ErrorCode.FETCH_SESSION_ID_NOT_FOUND, None, [], True)
        if not session.partitions:
            self._end(session.session_id)
            return FetchContext(ErrorCode.NONE, None, [], False)
        return FetchContext(ErrorCode.NONE, session, session.partitions.values(), True)

    def _open(
        self, partitions: Sequence[FetchedPartition], uses_topic_ids: bool, now_s: float
    ) -> FetchSession | None:
        count = len(partitions)
        if count > MAX_SESSION_PARTITIONS or self.partition_count + count > MAX_PARTITIONS:
            return None
        if len(self._sessions) >= self._slots:
            oldest = next(iter(self._sessions.values()), None)
            if oldest is None or now_s - oldest.last_used_s < MIN_EVICTION_IDLE_S:
                return None
            self._end(oldest.session_id)
            self.evicted_count += 1
        session_id = self._new_id()
        while session_id == NO_SESSION_ID or session_id in self._sessions:
            session_id = self._new_id()
        session = FetchSession(session_id, uses_topic_ids, now_s)
        for partition in partitions:
            session.put_last(partition)
        self._sessions[session_id] = session
        return session

    def _end(self, session_id: int) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None and session.watch is not None:
            session.watch.close()

    @staticmethod
    def _update(
        session: FetchSession, request: FetchRequest, named: list[FetchedPartition] | None = None
    ) -> None:
        for asked in requested(request) if named is None else named:
            cached = session.partitions.get(asked.key)
            if session.stirred is not None:
                session.stirred[cached or asked] = None
            if cached is None:
                session.put_last(asked)
                continue
            cached.quiet_at = None
            cached.fetch_offset = asked.fetch_offset
            cached.max_bytes = asked.max_bytes
            cached.current_leader_epoch = asked.current_leader_epoch
            cached.last_fetched_epoch = asked.last_fetched_epoch
            cached.log_start_offset = asked.log_start_offset
        for forgotten in request.forgotten_topics_data:
            name = forgotten.topic_id if session.uses_topic_ids else forgotten.topic or ""
            for partition in forgotten.partitions:
                asked_before = session.partitions.pop((name, partition), None)
                if asked_before is not None and session.watch is not None:
                    session.watch.forget(asked_before)


def is_news(
    partition: FetchedPartition, has_data: bool, error: int, high_watermark: int, log_start_offset: int
) -> bool:
    """Whether an incremental answer must name the partition; remembers what was told (KIP-227)."""
    news = (
        has_data
        or error != 0
        or partition.sent_high_watermark != high_watermark
        or partition.sent_log_start_offset != log_start_offset
    )
    # An error is repeated until it is gone; -1 makes the first answer without it news as well.
    partition.sent_high_watermark = -1 if error else high_watermark
    partition.sent_log_start_offset = -1 if error else log_start_offset
    return news
