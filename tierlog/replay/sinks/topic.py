"""Into another topic, with headers that name the origin: whoever reads there can tell a replay, and leave out side effects.

Records keep their key, value, time and headers, and their partition where both topics have as many; else the key chooses, as
Kafka's own clients do it. At least once: what the state does not know yet is written again after a kill.
"""

from __future__ import annotations

from struct import unpack
from typing import Any

import pyarrow as pa

from tierlog.admin.errors import describe_error
from tierlog.errors import UserError
from tierlog.records.batch import Compression
from tierlog.records.records import Record, RecordHeader, build_batch, encode_record
from tierlog.replay.cluster import Cluster
from tierlog.replay.reading import Chunk
from tierlog.replay.running.state import State
from tierlog.replay.sinks.port import Done
from tierlog.types import NO_TIMESTAMP, TopicPartition

BATCH_BYTES = 256 << 10
ORIGIN_HEADERS = (
    "tierlog.replay.topic",
    "tierlog.replay.partition",
    "tierlog.replay.offset",
    "tierlog.replay.timestamp",
)
ERROR_HEADER = "tierlog.replay.error"
NEEDED = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")


class TopicSink:
    needs_state = is_kept = True
    needs_order = "the records of a key keep their order in a topic"

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._counts = {topic: len(cluster.topic(topic).leaders)}
        self._waiting: dict[int, list[Record]] = {}
        self._waiting_bytes: dict[int, int] = {}
        self._reached: dict[TopicPartition, int] = {}

    def start(self, state: State, *, is_resumed: bool) -> Done:
        if any(topic == self._topic for topic, *_ in state.ranges):
            raise UserError(f"{self._topic} cannot be replayed into itself; name another topic")
        return state.done_ranges()

    def write(self, chunk: Chunk) -> None:
        if chunk.batch is not None and chunk.batch.num_rows:
            self.take(chunk.batch)
        self._reached[chunk.where] = chunk.next_offset

    def settle(self, state: State) -> None:
        self.send_all()
        for where, next_offset in self._reached.items():
            state.reached(where, next_offset)

    def close(self) -> None:
        self.send_all()

    def send_all(self) -> None:
        for partition in list(self._waiting):
            self._send(partition)

    def give_up(self) -> None:
        """What waits was never there."""

    def take(self, batch: pa.RecordBatch) -> None:
        """With the columns ``NEEDED``, and perhaps an error that a header tells."""
        times = batch["timestamp"].cast(pa.int64()).to_pylist()
        rows = batch.drop_columns(["timestamp"]).to_pylist()
        for row, time in zip(rows, times, strict=True):
            timestamp = NO_TIMESTAMP if time is None else time
            record = Record(row["key"], row["value"], timestamp, (*_headers(row), *_origin(row, timestamp)))
            partition = self._partition(row)
            self._waiting.setdefault(partition, []).append(record)
            size = self._waiting_bytes.get(partition, 0) + len(encode_record(record, 0, 0))
            self._waiting_bytes[partition] = size
            if size >= BATCH_BYTES:
                self._send(partition)

    def _partition(self, row: dict[str, Any]) -> int:
        origin = row["topic"]
        if origin not in self._counts:
            self._counts[origin] = len(self._cluster.topic(origin).leaders)
        count = self._counts[self._topic]
        if self._counts[origin] == count or row["key"] is None:
            return int(row["partition"]) % count
        return (murmur2(row["key"]) & 0x7FFFFFFF) % count

    def _send(self, partition: int) -> None:
        records = self._waiting.pop(partition)
        self._waiting_bytes[partition] = 0
        batch = build_batch(records, compression=Compression.LZ4)
        where = TopicPartition(self._topic, partition)
        code, message = self._cluster.produce(where, batch)
        if code:
            told = describe_error(code, message)
            raise UserError(f"{where}: {told}; go on with --resume, what was written stays")


def _headers(row: dict[str, Any]) -> tuple[RecordHeader, ...]:
    return tuple((header["key"], header["value"]) for header in row["headers"])


def _origin(row: dict[str, Any], timestamp: int) -> tuple[RecordHeader, ...]:
    values = (row["topic"], row["partition"], row["offset"], timestamp)
    told = zip(ORIGIN_HEADERS, values, strict=True)
    error = [(ERROR_HEADER, row["error"])] if "error" in row else []
    return tuple((name, str(value).encode()) for name, value in (*told, *error))


def origin_of(record: Record) -> tuple[TopicPartition, int] | None:
    """Where a replay has read it; None of a record that no replay has sent."""
    told = dict(record.headers)
    topic, partition, offset = (told.get(name) for name in ORIGIN_HEADERS[:3])
    try:
        return TopicPartition(bytes(topic or b"").decode(), int(partition or b"")), int(offset or b"")
    except ValueError:
        return None


def murmur2(key: bytes) -> int:
    """The hash by which Kafka's Java client chooses a partition."""
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    mixed = 0x9747B28C ^ len(key)
    whole = len(key) // 4 * 4
    for (word,) in (unpack("<I", key[at : at + 4]) for at in range(0, whole, 4)):
        word = word * factor & mask
        mixed = mixed * factor & mask ^ ((word ^ word >> 24) * factor & mask)
    rest = key[whole:]
    if rest:
        mixed = (mixed ^ int.from_bytes(rest, "little")) * factor & mask
    mixed = (mixed ^ mixed >> 13) * factor & mask
    return mixed ^ mixed >> 15
