"""Loads one group shard from its log, in slices that keep the loop free.

Offsets of deleted topics are skipped and removed. Otherwise a new topic of the same name, created later or during the load,
would begin with them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import islice

from tierlog.broker.groups.shard_log import ShardLog
from tierlog.coordination.config import GroupConfig
from tierlog.coordination.log_replay import LogReplay
from tierlog.coordination.records import Event, OffsetCommitted
from tierlog.coordination.shard import GroupShard

SLICE_BYTES = 256 * 1024
SLICE_EVENT_COUNT = 1000


class ShardLoading:
    """Reads up to the log end as it was at the start, then replays. Call ``step`` until it returns True; each
    call takes a few milliseconds. ``end_offset`` (exclusive): the log is reflected in the shard up to there."""

    __slots__ = (
        "_deleted_topics",
        "_events",
        "_log",
        "_next_offset",
        "_replay",
        "_topic_exists",
        "end_offset",
        "orphans",
        "shard",
    )

    def __init__(
        self,
        log: ShardLog,
        config: GroupConfig,
        topic_exists: Callable[[str], bool],
        deleted_topics: Collection[str],
    ) -> None:
        """``topic_exists(name)`` asks an image in which this broker leads the partition; if false, the topic was deleted
        while no coordinator heard of it. ``deleted_topics``: topics deleted since the log was last read, or during the
        load. They may exist again by now, but the loaded offsets are not theirs."""
        self.shard = GroupShard(config)
        self.end_offset = log.log_end_offset
        self._log = log
        self._next_offset = log.log_start_offset
        self._replay = LogReplay()
        self._topic_exists = topic_exists
        self._events: Iterator[Event] | None = None
        self._deleted_topics = deleted_topics
        # The events that remove the skipped offsets.
        self.orphans: list[Event] = []

    @property
    def malformed_count(self) -> int:
        """The number of records that could not be read, plus that of groups that could not be built."""
        return self._replay.malformed_count + self.shard.unusable_count

    def step(self) -> bool:
        """Does one slice; True when everything is replayed. Raises StorageError, and MalformedMessage for a
        corrupt batch."""
        if self._next_offset < self.end_offset:
            batches, next_offset = self._log.read(self._next_offset, SLICE_BYTES)
            self._replay.feed(batches)
            # If the log returns nothing before its end, retention or truncation has removed the rest.
            self._next_offset = next_offset if next_offset > self._next_offset else self.end_offset
            return False
        if self._events is None:
            self._events = self._replay.events()
        count = 0
        for event in islice(self._events, SLICE_EVENT_COUNT):
            count += 1
            if isinstance(event, OffsetCommitted) and (
                event.topic in self._deleted_topics or not self._topic_exists(event.topic)
            ):
                self.orphans.append(event._replace(committed=None))
            else:
                self.shard.replay(event)
        return count < SLICE_EVENT_COUNT
