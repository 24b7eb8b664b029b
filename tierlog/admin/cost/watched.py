"""What reports tell beside a bill, noted while the rows go by: topics, idle ones, and what was held each day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiering.ledger.rows import Direction, Kind, LedgerRow

DAY_MS = 86_400_000
_CLIENTS = (Direction.PRODUCE, Direction.CONSUME, Direction.CONSUME_REMOTE)


@dataclass(slots=True)
class Day:
    """Byte-hours of ``hours`` hours."""

    hours: int = 0
    local_byte_hours: float = 0.0
    remote_byte_hours: float = 0.0


class Watched:
    """Bound: a number for each topic and each day, and what the newest hour holds of each topic."""

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.days: dict[int, Day] = defaultdict(Day)
        self._busy: set[str] = set()
        self._held: dict[str, dict[str, int]] = defaultdict(lambda: {"local_bytes": 0, "remote_bytes": 0})
        self._day = Day()
        self.newest_ms = 0
        """The newest hour."""

    def begin_hour(self, hour_ms: int) -> None:
        self.newest_ms = hour_ms
        self._day = self.days[hour_ms // DAY_MS]
        self._day.hours += 1
        self._held.clear()

    def end_hour(self) -> None:
        pass

    def add(self, rows: Sequence[LedgerRow]) -> None:
        day = self._day
        for row in rows:
            if row.topic:
                self.topics.add(row.topic)
            if row.kind == Kind.LOCAL:
                day.local_byte_hours += row.byte_hours
                self._held[row.topic]["local_bytes"] += row.held_bytes
            elif row.kind == Kind.STORED:
                day.remote_byte_hours += row.byte_hours
                self._held[row.topic]["remote_bytes"] += row.held_bytes
            elif row.direction in _CLIENTS and (row.sent_bytes or row.received_bytes):
                self._busy.add(row.topic)

    def idle_topics(self) -> list[dict[str, Any]]:
        """Topics that nobody wrote to or read from, and what the last hour says they hold."""
        return [
            {"topic": topic, **sums}
            for topic, sums in sorted(self._held.items())
            if topic and topic not in self._busy and any(sums.values())
        ]
