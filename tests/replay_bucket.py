"""Buckets made without a broker: topics of which every record is known, of any size, for tests and benchmarks of replays."""

from __future__ import annotations

import json
import os
import random
import struct
from array import array
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

from crc32c import crc32c

from tiering.codec import (
    CRC_CHUNK_BYTES,
    INDEX_INTERVAL_BYTES,
    AbortedTransaction,
    SegmentFooter,
    SegmentIdentity,
)
from tiering.head_codec import encode_head
from tiering.keys import CLUSTER_MARKER, PartitionKeys, cluster_marker, topic_record
from tiering.model import HAS_ABORTED_TRANSACTIONS, SegmentEntry, TierHead
from tiering.objects.classes import StorageClass
from tierlog.records.batch import BASE_TIMESTAMP_AT, Compression, seal, stamp, walk
from tierlog.records.records import Record, build_batch

CLUSTER = "replayed-cluster"
FIRST_MS = 1_700_000_000_000


class Shape(NamedTuple):
    """What records are like: half of each value compresses."""

    value_bytes: int = 100
    batch_records: int = 130
    codec: Compression = Compression.NONE
    header_count: int = 0
    ms_apart: int = 3


def batches(records_count: int, shape: Shape, *, seed: int = 1, first_offset: int = 0) -> Iterator[bytearray]:
    rng = random.Random(seed)
    noise = rng.randbytes(1 << 16)
    half = shape.value_bytes // 2
    headers = tuple((f"h{number}", b"content") for number in range(shape.header_count))
    for base in range(first_offset, first_offset + records_count, shape.batch_records):
        records = []
        for offset in range(base, min(base + shape.batch_records, first_offset + records_count)):
            at = rng.randrange(len(noise) - half)
            text = b"%d," % offset
            value = noise[at : at + half] + (text * (half // len(text) + 1))[: shape.value_bytes - half]
            records.append(Record(b"key-%d" % offset, value, FIRST_MS + offset * shape.ms_apart, headers))
        yield build_batch(records, base_offset=base, leader_epoch=3, compression=shape.codec)


class BucketMaker:
    """Writes into a directory. Segments are appended with ``add``; ``publish`` makes them visible."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._heads: dict[PartitionKeys, TierHead] = {}
        self._uuids = count(1)
        self._put(CLUSTER_MARKER, cluster_marker(CLUSTER))
        (root / ".tmp").mkdir()  # Whoever has written there before has made it.

    @property
    def url(self) -> str:
        return f"dir://{self.root}"

    def topic(self, name: str) -> bytes:
        topic_id = name.encode().ljust(16, b"\0")
        record = {"format_version": 1, "name": name, "topic_id": topic_id.hex()}
        self._put(topic_record(CLUSTER, topic_id), json.dumps(record).encode())
        return topic_id

    def add(
        self,
        name: str,
        partition: int,
        data: bytes,
        aborted: Iterable[AbortedTransaction] = (),
        storage_class: StorageClass = StorageClass.STANDARD,
    ) -> SegmentEntry:
        """A segment of whole batches that go on where the last one ended."""
        keys = PartitionKeys(CLUSTER, self.topic(name), partition)
        head = self._heads.get(keys, TierHead.empty())
        headers = [header for _, header in walk(data)]
        aborted = tuple(aborted)
        footer = _footer_of(data, head.end, headers[-1].next_offset, aborted)
        uuid = next(self._uuids).to_bytes(16, "big")
        first, largest = headers[0].max_timestamp, max(header.max_timestamp for header in headers)
        flags = HAS_ABORTED_TRANSACTIONS if aborted else 0
        footer.identity = SegmentIdentity(
            keys.topic_id, partition, 3, 0, uuid, len(data), first, largest, largest, 3, flags, CLUSTER
        )
        tail = footer.encode()
        size = len(data) + len(tail)
        entry = SegmentEntry(
            *(
                head.end,
                headers[-1].next_offset,
                3,
                uuid,
                len(data),
                len(data),
                size,
                first,
                largest,
                largest,
                3,
            ),
            flags=flags,
            storage_class=storage_class,
        )
        self._put(keys.segment(entry), data, tail)
        self._heads[keys] = head.with_committed(entry)
        return entry

    def fill(self, name: str, partition: int, segments: int, records: int, shape: Shape) -> None:
        """``segments`` of ``records`` each."""
        for number in range(segments):
            made = batches(records, shape, seed=partition, first_offset=number * records)
            self.add(name, partition, b"".join(made))
        self.publish()

    def repeat(self, name: str, partition: int, later_ms: int = 0) -> None:
        """One more segment of the first one's records, at the next offsets and so much later: a long log is made fast."""
        keys = PartitionKeys(CLUSTER, self.topic(name), partition)
        head = self._heads[keys]
        first = head.tail[0]
        data = bytearray((self.root / keys.segment(first)).read_bytes()[: first.data_bytes])
        for position, header in walk(bytes(data)):
            stamp(
                data,
                position,
                header.base_offset - first.base_offset + head.end,
                header.partition_leader_epoch,
            )
            if later_ms:
                times = header.base_timestamp + later_ms, header.max_timestamp + later_ms
                struct.pack_into(">qq", data, position + BASE_TIMESTAMP_AT, *times)
                seal(data, position, header.size_bytes)
        self.add(name, partition, bytes(data))

    def replace(self, name: str, partition: int, number: int) -> None:
        """Another object with the bytes of this entry of the tail, which goes."""
        keys = PartitionKeys(CLUSTER, self.topic(name), partition)
        head = self._heads[keys]
        old = head.tail[number]
        new = old._replace(uuid=next(self._uuids).to_bytes(16, "big"))
        os.rename(self.root / keys.segment(old), self.root / keys.segment(new))
        tail = (*head.tail[:number], new, *head.tail[number + 1 :])
        self._heads[keys] = head.with_replaced(tail, head.page_index, (), [old], FIRST_MS)

    def raise_start(self, name: str, partition: int, offset: int) -> None:
        keys = PartitionKeys(CLUSTER, self.topic(name), partition)
        self._heads[keys] = self._heads[keys].with_start(offset, FIRST_MS)

    def publish(self) -> None:
        for keys, head in self._heads.items():
            self._put(keys.head_copy(head.sequence), encode_head(head))

    def segment_paths(self) -> list[Path]:
        return sorted(self.root.glob("*/*/*/*/*.seg"))

    def _put(self, key: str, *parts: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(parts))


def _footer_of(data: bytes, base: int, end: int, aborted: tuple[AbortedTransaction, ...]) -> SegmentFooter:
    view = memoryview(data)
    crcs = array(
        "I", (crc32c(view[at : at + CRC_CHUNK_BYTES]) for at in range(0, len(data), CRC_CHUNK_BYTES))
    )
    footer = SegmentFooter(base, end, len(data), chunk_crcs=crcs, aborted=aborted)
    following, largest = 0, -1
    for position, header in walk(data):
        if position >= following:
            footer.index_offsets.append(header.base_offset)
            footer.index_positions.append(position)
            following = position + INDEX_INTERVAL_BYTES
        if header.max_timestamp > largest:
            largest = header.max_timestamp
            footer.time_timestamps.append(largest)
            footer.time_offsets.append(header.base_offset)
    return footer
