"""Dead letters in a topic: the record as it was, with headers that name its origin and the error.

The first run remembers where the topic ends. A replay that is resumed reads from there which dead letters have come, so that
only the others are sent; one whose sending was cut off by the kill may still come twice.
"""

from __future__ import annotations

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.records.batch import walk_whole
from tierlog.records.records import read_records
from tierlog.replay.cluster import LATEST, Cluster
from tierlog.replay.dead.port import is_done
from tierlog.replay.running.state import State
from tierlog.replay.sinks.port import Done
from tierlog.replay.sinks.topic import TopicSink, origin_of
from tierlog.types import TopicPartition


class DeadTopic:
    """Raises UserError."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._sink = TopicSink(cluster, topic)
        self._sent: set[tuple[TopicPartition, int]] = set()
        """By earlier runs, of records that come again."""

    def start(self, state: State, done: Done, *, is_resumed: bool) -> None:
        if any(topic == self._topic for topic, *_ in state.ranges):
            raise UserError(f"--dead-letters topic:{self._topic}: it is replayed itself; name another topic")
        for partition in sorted(self._cluster.topic(self._topic).leaders):
            where = TopicPartition(self._topic, partition)
            end = self._cluster.offset_at(where, LATEST)
            begin = state.dead_from.setdefault(str(partition), end)
            if is_resumed:
                self._look(where, begin, end, done)

    def _look(self, where: TopicPartition, at: int, end: int, done: Done) -> None:
        while at < end:
            data = self._cluster.fetch(where, at).records
            batches = list(walk_whole(data))
            if not batches:
                raise UserError(f"{where}: the leader has nothing from offset {at} on, of {end}; try again")
            for pos, header in batches:
                at = header.next_offset
                for record in () if header.is_control else read_records(data, pos, header):
                    origin = origin_of(record)
                    if origin is not None and not is_done(done, *origin):
                        self._sent.add(origin)

    def take(self, dead: pa.RecordBatch) -> None:
        if self._sent:
            rows = dead.select(["topic", "partition", "offset"]).to_pylist()
            places = [(TopicPartition(row["topic"], row["partition"]), row["offset"]) for row in rows]
            dead = dead.filter(pa.array([place not in self._sent for place in places]))
        self._sink.take(dead)

    def settle(self) -> None:
        self._sink.send_all()

    def close(self) -> None:
        """What was not sent comes again."""
