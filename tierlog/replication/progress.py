"""The progress of one follower, as its leader sees it (Kafka's ``Replica``).

All of it comes from fetches of the current leader epoch that passed the divergence check.
"""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN = -1


@dataclass(slots=True)
class Presence:
    """The time of a follower's last fetch in one fetch session. It counts for all quiet partitions of the session, which the
    fetches do not name. A session belongs to one registration of the follower (``broker_epoch``)."""

    broker_epoch: int = UNKNOWN
    seen_ms: int = UNKNOWN


@dataclass(slots=True)
class FollowerProgress:
    """Moved by ``on_fetch``. Times are of the leader's monotonic clock, in ms."""

    # The follower's registration at its last fetch; only grows.
    broker_epoch: int = UNKNOWN
    # The fetch offset of its last fetch: all records below are durable there, by its flush mode.
    log_end_offset: int = UNKNOWN
    # The follower's own log start at its last fetch.
    log_start_offset: int = UNKNOWN
    # The last time at which it had all records that the leader had at that moment; see also ``caught_up_ms``.
    last_caught_up_ms: int = 0
    last_fetch_ms: int = 0
    # The leader's log end (exclusive) at the follower's last fetch.
    last_fetch_log_end_offset: int = UNKNOWN
    # The high watermark in the last answer to the follower.
    high_watermark_sent: int = UNKNOWN
    # Set while the follower is at the log end and its fetches skip this partition, because nothing has changed.
    presence: Presence | None = None

    def on_fetch(
        self, broker_epoch: int, fetch_offset: int, log_start_offset: int, leader_end_offset: int, now_ms: int
    ) -> None:
        """Kafka's rule: a follower is caught up *now* if it is at the leader's log end. It was caught up *at its
        previous fetch* if it has reached the log end of that time. So a follower under steady load counts as
        caught up although it never reaches the present log end."""
        if fetch_offset >= leader_end_offset:
            self.last_caught_up_ms = max(self.last_caught_up_ms, now_ms)
        elif fetch_offset >= self.last_fetch_log_end_offset > UNKNOWN:
            self.last_caught_up_ms = max(self.caught_up_ms, self.last_fetch_ms)
        else:
            self.last_caught_up_ms = self.caught_up_ms
        self.presence = None
        self.broker_epoch = broker_epoch
        self.log_end_offset = fetch_offset
        self.log_start_offset = log_start_offset
        self.last_fetch_log_end_offset = leader_end_offset
        self.last_fetch_ms = now_ms

    @property
    def caught_up_ms(self) -> int:
        """The last time at which the follower had everything. While the partition is quiet, each fetch of its session
        counts as that; the first append ends it."""
        presence = self.presence
        return self.last_caught_up_ms if presence is None else max(self.last_caught_up_ms, presence.seen_ms)

    def end_presence(self) -> None:
        """Ends the presence: the partition has news, so only a fetch that reads it proves that the follower is caught up."""
        if self.presence is not None:
            self.last_caught_up_ms, self.presence = self.caught_up_ms, None

    def on_stall(self, gap_ms: int) -> None:
        """The leader could hear no fetch for ``gap_ms``: shifts the follower's times by as much."""
        self.last_caught_up_ms = self.caught_up_ms + gap_ms
        self.last_fetch_ms += gap_ms

    def is_lagging(self, leader_end_offset: int, now_ms: int, lag_time_max_ms: int) -> bool:
        """Whether the follower is behind, and was last caught up more than ``replica.lag.time.max.ms`` ago."""
        return self.log_end_offset != leader_end_offset and now_ms - self.caught_up_ms > lag_time_max_ms
