"""How far one follower has come, as its leader sees it (Kafka's ``Replica``).

Everything here comes from fetches of the present leader epoch that passed the divergence check.
"""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN = -1


@dataclass(slots=True)
class Presence:
    """When a follower was last heard of in one session of fetches, which names only partitions with news. A session belongs
    to one registration of the follower."""

    broker_epoch: int = UNKNOWN
    seen_ms: int = UNKNOWN


@dataclass(slots=True)
class FollowerProgress:
    """Times are the leader's monotone clock, in ms."""

    # Incarnation that fetched last; only grows.
    broker_epoch: int = UNKNOWN
    # Next offset it will ask for: everything below is durable there, per its flush mode.
    log_end_offset: int = UNKNOWN
    log_start_offset: int = UNKNOWN
    # When it last had all that the leader had at that moment.
    last_caught_up_ms: int = 0
    last_fetch_ms: int = 0
    # The leader's log end when it fetched last.
    last_fetch_log_end_offset: int = UNKNOWN
    # The high watermark in the last answer to it.
    high_watermark_sent: int = UNKNOWN
    # While it stands at the log end, and its fetches pass this partition over because nothing has changed.
    presence: Presence | None = None

    def on_fetch(
        self, broker_epoch: int, fetch_offset: int, log_start_offset: int, leader_end_offset: int, now_ms: int
    ) -> None:
        """Kafka's rule: it is caught up *now* at the leader's log end, and it was caught up *when it fetched
        last* where it has since got everything that was there then. So a follower under steady load counts as
        caught up although there is always something more."""
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
        """When it last had everything. Each fetch of its session since it became quiet said so again: the first one after
        an append is served, and ends that."""
        presence = self.presence
        return self.last_caught_up_ms if presence is None else max(self.last_caught_up_ms, presence.seen_ms)

    def end_presence(self) -> None:
        """What comes from now on is not known to it before a fetch is served."""
        if self.presence is not None:
            self.last_caught_up_ms, self.presence = self.caught_up_ms, None

    def on_stall(self, gap_ms: int) -> None:
        """Nobody could be heard for ``gap_ms``."""
        self.last_caught_up_ms = self.caught_up_ms + gap_ms
        self.last_fetch_ms += gap_ms

    def is_lagging(self, leader_end_offset: int, now_ms: int, lag_time_max_ms: int) -> bool:
        """``replica.lag.time.max.ms``: out of sync, unless it has everything."""
        return self.log_end_offset != leader_end_offset and now_ms - self.caught_up_ms > lag_time_max_ms
