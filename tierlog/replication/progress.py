"""How far one follower has come, as its leader sees it (Kafka's ``Replica``).

Everything here comes from fetches of the present leader epoch that passed the divergence check.
"""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN = -1


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

    def on_fetch(
        self, broker_epoch: int, fetch_offset: int, log_start_offset: int, leader_end_offset: int, now_ms: int
    ) -> None:
        """Kafka's rule: it is caught up *now* at the leader's log end, and it was caught up *when it fetched
        last* where it has since got everything that was there then. So a follower under steady load counts as
        caught up although there is always something more."""
        if fetch_offset >= leader_end_offset:
            self.last_caught_up_ms = max(self.last_caught_up_ms, now_ms)
        elif fetch_offset >= self.last_fetch_log_end_offset > UNKNOWN:
            self.last_caught_up_ms = max(self.last_caught_up_ms, self.last_fetch_ms)
        self.broker_epoch = broker_epoch
        self.log_end_offset = fetch_offset
        self.log_start_offset = log_start_offset
        self.last_fetch_log_end_offset = leader_end_offset
        self.last_fetch_ms = now_ms

    def is_lagging(self, leader_end_offset: int, now_ms: int, lag_time_max_ms: int) -> bool:
        """``replica.lag.time.max.ms``: out of sync, unless it has everything."""
        return self.log_end_offset != leader_end_offset and now_ms - self.last_caught_up_ms > lag_time_max_ms
