"""A partition of more segments than its head holds: the rest stands in Parquet, for anybody who reads Parquet."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from tests.bucket_reader import Bucket
from tests.e2e.bucket_records import records_of
from tests.e2e.tiered import await_tiered, create, hurried, objects, read, storage, topic_id, until
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode

TAIL_ENTRIES_MAX = 64
SEGMENT_BYTES = 10_000


def fill(broker: BrokerProcess, topic: str, count: int, first: int) -> None:
    """One segment per record."""
    with RawClient(broker.port) as client:
        for number in range(first, first + count):
            value = (b"%d " % number * SEGMENT_BYTES)[: SEGMENT_BYTES - 1000]
            assert client.produce(topic, one_batch(value), acks=1).error_code == ErrorCode.NONE


def rows_of(path: Path) -> list[dict[str, Any]]:
    table = parquet.read_table(io.BytesIO(path.read_bytes()))
    assert table.schema.metadata[b"tierlog.format_version"] == b"2"
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def paged(broker: BrokerProcess, which: str) -> list[dict[str, Any]]:
    """The rows of all pages that the newest page index lists."""
    indexes = sorted(broker.objects.glob(f"meta/*/partitions/{which}/0/*.index"))
    entries: list[dict[str, Any]] = []
    for page in rows_of(indexes[-1]):
        found = rows_of(broker.objects / page["key"])
        assert len(found) == page["entry_count"]
        assert sum(row["data_bytes"] for row in found) == page["data_bytes"]
        assert (found[0]["base_offset"], found[-1]["end_offset"]) == (page["base_offset"], page["end_offset"])
        entries += found
    return entries


def check_pages(broker: BrokerProcess, topic: str, segments: int) -> int:
    """Pages and tail name every object, in order and without a hole; returns how many are paged."""
    which = topic_id(broker, topic)
    (row,) = storage(broker, topic)
    present = sorted(objects(broker, which))
    assert row["remote"]["segments"] == segments == len(present)
    entries = paged(broker, which)
    assert segments - TAIL_ENTRIES_MAX <= len(entries) < segments
    assert [entry["key"] for entry in entries] == present[: len(entries)]
    bounds = [entry["base_offset"] for entry in entries] + [entries[-1]["end_offset"]]
    assert bounds == [0, *(entry["end_offset"] for entry in entries)]
    for entry in entries:
        assert (broker.objects / entry["key"]).stat().st_size == entry["object_bytes"]
        assert entry["data_bytes"] < entry["object_bytes"]
    return len(entries)


def check_reader(broker: BrokerProcess, which: str, count: int) -> None:
    """Whoever knows the format finds head, pages and every object; the heads were copied again at the start."""
    bucket = Bucket.of_directory(broker.objects)
    until(lambda: bucket.head(which, 0).end == count)
    head = bucket.head(which, 0)
    names = [bucket.segment_name(which, 0, head, entry) for entry in bucket.entries(which, 0, head)]
    assert names == sorted(objects(broker, which))
    assert [row.offset for row in records_of(bucket, which, 0)] == list(range(count))


def test_pages_list_the_segments_over_a_restart(tmp_path: Path) -> None:
    topic, count = "many", 150
    url = f"dir:{tmp_path / 'objects'}?durable=false"
    with hurried(tmp_path, tierlog_object_store=url, flush_mode="os") as broker:
        create(broker, topic, internal_segment_bytes=str(SEGMENT_BYTES))
        fill(broker, topic, count + 1, 0)
        await_tiered(broker, topic)
        first = check_pages(broker, topic, count)
        broker.kill()
        broker.start()
        await_tiered(broker, topic)  # the pages are read again
        assert check_pages(broker, topic, count) == first
        check_reader(broker, topic_id(broker, topic), count)
        assert [row.offset for row in read(broker, topic, count + 1, {0: 0})] == list(range(count + 1))
        fill(broker, topic, 60, count + 1)
        await_tiered(broker, topic)
        assert check_pages(broker, topic, count + 60) > first
        rows = read(broker, topic, count + 61, {0: 0})
        assert all(row.value.startswith(b"%d " % row.offset * 9) for row in rows)
