"""The records that the bucket's reader finds, decoded by kafka-python."""

from __future__ import annotations

from typing import Any

from kafka.record import MemoryRecords

from tests.bucket_reader import Bucket
from tests.e2e.tiered import Row


def records_of(bucket: Bucket, topic: str, partition: int) -> list[Any]:
    """From the head's start on."""
    start, found = bucket.head(topic, partition).start, []
    for entry, batch in bucket.batches(topic, partition):
        records = MemoryRecords(batch.data)
        while records.has_next():
            found += [each for each in records.next_batch() if each.offset >= max(start, entry.base_offset)]
    return found


def rows_of(bucket: Bucket, topic: str, partition: int) -> list[Row]:
    found = records_of(bucket, topic, partition)
    return [Row(partition, each.offset, each.key, each.value, each.timestamp) for each in found]
