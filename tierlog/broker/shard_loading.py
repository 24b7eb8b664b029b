"""Loading one group shard from its log, in slices that keep the loop free."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from tierlog.broker.shard_log import ShardLog
from tierlog.coordination.config import GroupConfig
from tierlog.coordination.log_replay import LogReplay
from tierlog.coordination.records import Event
from tierlog.coordination.shard import GroupShard

SLICE_BYTES = 256 * 1024
SLICE_EVENT_COUNT = 1000


class ShardLoading:
    """Reads up to the log end as it was at the start, then replays. ``step`` until it returns True; each
    takes a few milliseconds. ``end_offset`` is what the shard reflects then."""

    __slots__ = ("_events", "_log", "_next_offset", "_replay", "end_offset", "shard")

    def __init__(self, log: ShardLog, config: GroupConfig) -> None:
        self.shard = GroupShard(config)
        self.end_offset = log.log_end_offset
        self._log = log
        self._next_offset = log.log_start_offset
        self._replay = LogReplay()
        self._events: Iterator[Event] | None = None

    @property
    def malformed_count(self) -> int:
        return self._replay.malformed_count

    def step(self) -> bool:
        """One slice; whether all is replayed. Raises StorageError, and MalformedMessage for a corrupt
        batch."""
        if self._next_offset < self.end_offset:
            batches, next_offset = self._log.read(self._next_offset, SLICE_BYTES)
            self._replay.feed(batches)
            # A log that gives nothing before its end has lost the rest to retention or truncation.
            self._next_offset = next_offset if next_offset > self._next_offset else self.end_offset
            return False
        if self._events is None:
            self._events = self._replay.events()
        count = 0
        for event in islice(self._events, SLICE_EVENT_COUNT):
            self.shard.replay(event)
            count += 1
        return count < SLICE_EVENT_COUNT
