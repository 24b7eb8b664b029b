"""The state machine of a follower of one partition: decides the next fetch, and the effects of a reply on the log.

Rules:

* one fetch is outstanding at a time, and a reply counts only if it answers that very fetch; a new leader epoch or a
  new registration forgets it;
* the fetch offset tells the leader what is durable here: with ``flush.mode=ack`` no fetch is sent while records wait
  for the disk;
* the log is cut only on the answer of the leader of this follower's own epoch, and by epoch lineage. A cut below the
  follower's own high watermark is made only if this replica has lost data, or if the leader was elected without proof.
  Otherwise the replica stops, since one of the two has lost committed records;
* the high watermark is the leader's, but at most the follower's own log end.

The driver carries out the effects in the same step (``StartFromTier`` takes longer and reports back).
Invariant: ``high_watermark <= log end``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from tierlog.errors import ErrorCode
from tierlog.replication.fetches import DivergingEpoch, FetchReply, FollowerFetch, ReplicaLog, last_epoch_of
from tierlog.replication.truncation import truncation_target

NO_LEADER = -1
BACKOFF_MIN_MS = 50
BACKOFF_MAX_MS = 1000


class FollowerState(Enum):
    FETCHING = "fetching"
    # There is no leader, or it knows a newer leader epoch: wait for the next partition record.
    AWAITING_RECORD = "awaiting record"
    STARTING_FROM_TIER = "starting from the tier"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Append:
    """Append the records of the reply unchanged, then call ``on_appended``."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Cut the log: it ends at ``offset`` (exclusive). The epoch lineage must be on the disk before the next fetch."""

    offset: int


@dataclass(frozen=True, slots=True)
class StartAt:
    """Drop everything and begin an empty log at ``offset``, the leader's log start."""

    offset: int


@dataclass(frozen=True, slots=True)
class StartFromTier:
    """Set the log aside and begin an empty one at the tiered end that the metadata store names, with the epoch lineage and
    producer state of the tier; then call ``on_started_from_tier``, or ``on_failure`` to try again."""


@dataclass(frozen=True, slots=True)
class StopReplica:
    """Take the replica offline and log the reason as an error."""

    reason: str


Effect: TypeAlias = Append | Truncate | StartAt | StartFromTier | StopReplica
Effects: TypeAlias = tuple[Effect, ...]
NOTHING: Effects = ()
_APPEND: Effects = (Append(),)


@dataclass(slots=True)
class Follower:
    """One replica that follows ``leader_id`` on ``leader_epoch``; a newer leader epoch makes a new object."""

    broker_id: int
    broker_epoch: int
    leader_id: int
    leader_epoch: int
    # Exclusive end of the records in this log that are known to be committed; moved by the leader's answers.
    high_watermark: int
    # This replica or its leader may have lost committed records: the log may be cut below the high watermark.
    may_lose_committed: bool = False
    # The leader's log start; this replica's log start follows, but never above the high watermark.
    log_start_offset: int = 0
    state: FollowerState = FollowerState.FETCHING
    # The fetch whose answer is awaited, None if there is none.
    outstanding: FollowerFetch | None = None
    # No fetch before this time of the driver's monotonic clock, and the back-off after the next failure.
    retry_ms: int = 0
    backoff_ms: int = BACKOFF_MIN_MS
    _leader_high_watermark: int = -1

    def __post_init__(self) -> None:
        assert self.leader_id != self.broker_id, "a replica does not follow itself"
        if self.leader_id == NO_LEADER:
            self.state = FollowerState.AWAITING_RECORD

    def is_in_sync(self, log_end_offset: int) -> bool:
        """Whether all offsets below the leader's high watermark are here, as of its last answer."""
        return self.lag(log_end_offset) == 0

    def lag(self, log_end_offset: int) -> int:
        """How many offsets below the leader's high watermark are missing here, as of its last answer."""
        return max(self._leader_high_watermark - log_end_offset, 0)

    # -- fetching

    def next_fetch(self, log: ReplicaLog, durable_end_offset: int, now_ms: int) -> FollowerFetch | None:
        """The fetch to send now, None if none may be sent. ``durable_end_offset``: exclusive end of the records that the
        flush mode counts as durable."""
        end_offset = log.log_end_offset
        if (
            self.outstanding is not None
            or self.state is not FollowerState.FETCHING
            or durable_end_offset < end_offset
            or now_ms < self.retry_ms
        ):
            return None
        fetch = FollowerFetch(
            self.broker_id,
            self.broker_epoch,
            self.leader_epoch,
            end_offset,
            last_epoch_of(log),
            log.log_start_offset,
        )
        self.outstanding = fetch
        return fetch

    def on_reply(self, fetch: FollowerFetch, reply: FetchReply, log: ReplicaLog, now_ms: int) -> Effects:
        """The leader's answer to ``fetch``; ignored unless ``fetch`` is the outstanding one."""
        if fetch is not self.outstanding:
            return NOTHING
        self.outstanding = None
        assert fetch.fetch_offset == log.log_end_offset, "only a reply changes a follower's log"
        error = reply.error
        if error:
            return self._on_error(error, reply, log, now_ms)
        self.backoff_ms = BACKOFF_MIN_MS
        if reply.diverging is not None:
            return self._diverged(reply.diverging, log)
        self._leader_high_watermark = reply.high_watermark
        self.log_start_offset = max(self.log_start_offset, reply.log_start_offset)
        if reply.has_records:
            return _APPEND
        self.on_appended(log.log_end_offset)
        return NOTHING

    def on_appended(self, log_end_offset: int) -> bool:
        """The records of the last reply are in the log, which now ends at ``log_end_offset``; returns whether the high
        watermark moved. The replica's log start may then follow to ``min(log_start_offset, high_watermark)``."""
        high_watermark = min(self._leader_high_watermark, log_end_offset)
        if high_watermark <= self.high_watermark:
            return False
        self.high_watermark = high_watermark
        return True

    def on_failure(self, fetch: FollowerFetch | None, now_ms: int) -> None:
        """No answer to ``fetch`` will come (the connection broke), or its answer could not be applied. ``fetch`` is None if
        an effect failed. The fetch is tried again after a back-off."""
        if fetch is not None and fetch is not self.outstanding:
            return
        self.outstanding = None
        if self.state is FollowerState.STARTING_FROM_TIER:
            self.state = FollowerState.FETCHING
        self._back_off(now_ms)

    def on_registered(self, broker_epoch: int) -> None:
        """This broker has a new registration: a fetch under the old one no longer proves anything."""
        self.broker_epoch = broker_epoch
        self.outstanding = None

    # -- errors and divergence

    def _on_error(self, error: ErrorCode, reply: FetchReply, log: ReplicaLog, now_ms: int) -> Effects:
        if error is ErrorCode.OFFSET_MOVED_TO_TIERED_STORAGE:
            self.state = FollowerState.STARTING_FROM_TIER
            return (StartFromTier(),)
        # Without the leader's log start and log end nothing can be concluded: the fetch is tried again.
        if error is ErrorCode.OFFSET_OUT_OF_RANGE and min(reply.log_start_offset, reply.log_end_offset) >= 0:
            return self._out_of_range(reply.log_start_offset, reply.log_end_offset, log, now_ms)
        if error is ErrorCode.FENCED_LEADER_EPOCH:
            self.state = FollowerState.AWAITING_RECORD
        self._back_off(now_ms)
        return NOTHING

    def _out_of_range(
        self, leader_start_offset: int, leader_end_offset: int, log: ReplicaLog, now_ms: int
    ) -> Effects:
        if leader_end_offset < log.log_end_offset:
            return self._cut(leader_end_offset)
        if log.log_start_offset < leader_start_offset and log.log_end_offset <= leader_start_offset:
            # All records below the leader's log start are deleted, and those here may be of another history.
            self.high_watermark = self.log_start_offset = leader_start_offset
            return (StartAt(leader_start_offset),)
        self._back_off(now_ms)  # the leader's log has changed meanwhile
        return NOTHING

    def _diverged(self, diverging: DivergingEpoch, log: ReplicaLog) -> Effects:
        target = truncation_target(log, diverging, self.high_watermark)
        if target >= log.log_end_offset:
            return self._stop(f"the leader of epoch {self.leader_epoch} knows none of this log's epochs")
        return self._cut(target)

    def _cut(self, offset: int) -> Effects:
        if offset < self.high_watermark:
            if not self.may_lose_committed:
                return self._stop(
                    f"the leader of epoch {self.leader_epoch} diverges at {offset}, below the high watermark "
                    f"{self.high_watermark}: committed records are lost here or there"
                )
            self.high_watermark = offset
        return (Truncate(offset),)

    def _stop(self, reason: str) -> Effects:
        self.state = FollowerState.STOPPED
        return (StopReplica(reason),)

    def _back_off(self, now_ms: int) -> None:
        self.retry_ms = now_ms + self.backoff_ms
        self.backoff_ms = min(2 * self.backoff_ms, BACKOFF_MAX_MS)

    # -- the tier

    def start_from_tier(self) -> Effects:
        """The driver found that the log must begin anew at the tiered end (``truncation.disagrees_with_tier``), or that a
        new, empty replica need not copy the tiered records."""
        self.outstanding = None
        self.state = FollowerState.STARTING_FROM_TIER
        return (StartFromTier(),)

    def on_nothing_tiered(self) -> None:
        """There is no tier to start from: fetching goes on from the log end."""
        if self.state is FollowerState.STARTING_FROM_TIER:
            self.state = FollowerState.FETCHING

    def on_started_from_tier(self, leader_epoch: int, offset: int) -> None:
        """The log is now empty and begins at ``offset``, the tiered end: everything below was committed."""
        if self.state is FollowerState.STARTING_FROM_TIER and leader_epoch == self.leader_epoch:
            self.state = FollowerState.FETCHING
            self.high_watermark = offset

    def check(self, log: ReplicaLog) -> None:
        assert self.high_watermark <= log.log_end_offset, "I1: high watermark above the log end"
