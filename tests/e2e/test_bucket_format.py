"""A bucket is read by whoever has ``docs/bucket-format.md``: the reader written from it finds every record of golden buckets
of both versions and of a live broker's, and refuses what is damaged or unknown.
"""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from crc32c import crc32c

from tests.bucket_bytes import Refused
from tests.bucket_reader import Bucket
from tests.e2e.bucket_records import records_of, rows_of
from tests.e2e.tiered import (
    await_tiered,
    create,
    delete,
    delete_records,
    hurried,
    produce,
    read,
    topic_id,
    until,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "bucket"
VERSIONS = ("v1", "v2")
Objects = dict[str, bytes]
both = pytest.mark.parametrize("version", VERSIONS)


def objects_of(version: str) -> Objects:
    """A golden bucket in memory, to be damaged."""
    root = GOLDEN / version
    files = (Path(folder, file) for folder, _, names in os.walk(root) for file in names)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def bucket_of(objects: Objects) -> Bucket:
    def list_keys(prefix: str) -> Iterator[str]:
        return (name for name in list(objects) if name.startswith(prefix))

    return Bucket(list_keys, objects.__getitem__)


def plain_records(bucket: Bucket, topic: str, partition: int) -> list[list[Any]]:
    """As they stand in the JSON beside a golden bucket."""

    def text(value: bytes | None) -> str | None:
        return None if value is None else value.decode()

    return [
        [
            each.offset,
            each.timestamp,
            text(each.key),
            text(each.value),
            [[k, text(v)] for k, v in each.headers],
        ]
        for each in records_of(bucket, topic, partition)
    ]


def expected_of(version: str) -> dict[str, dict[str, Any]]:
    """By topic name and partition, ``orders/0``."""
    found: dict[str, dict[str, Any]] = json.loads((GOLDEN / f"{version}.json").read_text())
    return found


def name_of(objects: Objects, topic: str, partition: int, like: str) -> str:
    """The first object of a partition whose name contains ``like``."""
    return min(name for name in objects if f"/{topic}/{partition}/" in name and like in name)


def sealed(data: bytes) -> bytes:
    """A head, or the trailer at the end of an object, whose last four bytes are its checksum again."""
    return data[:-4] + struct.pack("<I", crc32c(data[:-4]))


def resealed_trailer(data: bytes, at: int, value: int) -> bytes:
    """A segment object with another u16 in its trailer, under a checksum that holds."""
    trailer = bytearray(data[-48:])
    struct.pack_into("<H", trailer, at, value)
    return data[:-48] + sealed(bytes(trailer))


def written(table: Any) -> bytes:
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


def with_metadata(data: bytes, key: bytes, value: bytes) -> bytes:
    table = parquet.read_table(io.BytesIO(data))
    return written(table.replace_schema_metadata(table.schema.metadata | {key: value}))


@both
def test_golden_buckets_hold_these_records(version: str) -> None:
    bucket, expected = Bucket.of_directory(GOLDEN / version), expected_of(version)
    topics = bucket.topics()
    places = [f"{name}/{partition}" for name in topics for partition in bucket.partitions(topics[name])]
    assert sorted(places) == sorted(expected)
    for place, what in expected.items():
        topic, partition = topics[place.partition("/")[0]], int(place.partition("/")[2])
        head = bucket.head(topic, partition)
        assert (head.start, head.end) == (what["start"], what["end"])
        assert plain_records(bucket, topic, partition) == what["records"], place
        lasts = [batch.last_offset for _, batch in bucket.batches(topic, partition)]
        assert head.start <= min(lasts), "no batch of nothing but deleted records"
        first = bucket.entries(topic, partition)[0]
        assert (head.version, bucket.segment(topic, partition, head, first).version) == (
            int(version[1:]),
        ) * 2
        assert (first.base_offset < head.start) == (what["start"] > 0), "a start inside a segment"
        assert (head.page_index is not None) == (place == "orders/0")


def test_the_command_prints_what_is_there() -> None:
    command = [sys.executable, "-m", "tests.bucket_reader", str(GOLDEN / "v2")]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["orders", "orders", "users"]
    ends = [line.rpartition("partition ")[2] for line in lines]
    assert ends[0] == "0: offsets 3 to 100, 97 records in 49 segments"
    assert ends[2] == "0: offsets 13 to 72, 59 records in 3 segments"
    only = subprocess.run([*command, "users"], check=True, capture_output=True, text=True).stdout
    assert only.splitlines() == lines[2:]


def test_a_live_brokers_bucket(tmp_path: Path) -> None:
    """All that is tiered of one partition, and of another one what DeleteRecords left, from inside a segment on."""
    with hurried(tmp_path) as broker:
        for topic in ("live", "empty", "gone"):
            create(broker, topic, 2 if topic == "live" else 1)
        acknowledged = produce(broker, "live", 500, partitions=2, codec="lz4")
        acknowledged = sorted(acknowledged + produce(broker, "live", 300, partitions=2, seed=2))
        ends = [row["tiered_end_offset"] for row in await_tiered(broker, "live")]
        delete(broker, "gone")
        bucket = Bucket.of_directory(broker.objects)
        which = topic_id(broker, "live")
        start = bucket_start_inside(bucket, broker.objects, which)
        assert delete_records(broker, "live", start, 1) == start
        assert read(broker, "live", 1, {1: start})[0].offset == start
        broker.kill()
        broker.start()  # which copies the heads at once
        until(lambda: [bucket.head(which, p).end for p in range(2)] == ends)
        until(lambda: bucket.head(which, 1).start == start)
        until(lambda: bucket.topics().keys() == {"live"})
        assert bucket.entries(which, 1)[0].base_offset < start
        for partition, first in ((0, 0), (1, start)):
            mine = [row for row in acknowledged if row.partition == partition]
            assert rows_of(bucket, which, partition) == mine[first : ends[partition]]


def bucket_start_inside(bucket: Bucket, root: Path, topic: str) -> int:
    """An offset in the middle of the second segment of partition 1, by the objects' names."""
    names = sorted(path.name for path in root.glob(f"*/{bucket.cluster}/{topic}/1/*.seg"))
    base, end = (int(text) for text in names[1].split("-")[:2])
    return (base + end) // 2


def outcome(objects: Objects, topic: str, partition: int) -> list[list[Any]] | None:
    """The records, or None if the reader refuses."""
    try:
        return plain_records(bucket_of(objects), topic, partition)
    except Refused as refused:
        assert "\n" not in str(refused)
        return None


@both
@pytest.mark.parametrize("kind", ["head-", ".seg", ".index", ".page"])
def test_damage_is_refused(version: str, kind: str) -> None:
    """One flipped bit anywhere, or an object cut short. Parquet has bytes that mean nothing: there, no wrong records."""
    objects = objects_of(version)
    is_parquet = kind in (".index", ".page")
    place = "orders/0" if is_parquet else "users/0"
    topic, partition = bucket_of(objects).topics()[place[:-2]], int(place[-1])
    name, records = name_of(objects, topic, partition, kind), expected_of(version)[place]["records"]
    intact = objects[name]
    assert outcome(objects, topic, partition) == records
    refused = 0
    steps = len(intact) // 40 if is_parquet else max(1, len(intact) // 350)
    for at in range(0, len(intact), steps):
        objects[name] = intact[:at] + bytes([intact[at] ^ 1 << at % 8]) + intact[at + 1 :]
        found = outcome(objects, topic, partition)
        assert found is None or (is_parquet and found == records), at
        refused += found is None
        objects[name] = intact[:at]
        assert outcome(objects, topic, partition) is None, at
    assert refused > 10


@both
def test_damaged_json_is_refused(version: str) -> None:
    """Every byte of the marker; of a topic record all but its name, which nothing else tells."""
    objects = objects_of(version)
    topic = bucket_of(objects).topics()["users"]
    record = next(name for name in objects if f"/topics/{topic}" in name)
    text_at = objects[record].index(b"users")
    for name, spared in (("meta/cluster.json", range(0)), (record, range(text_at, text_at + 5))):
        intact = objects[name]
        for at in set(range(len(intact))) - set(spared):
            objects[name] = intact[:at] + bytes([intact[at] ^ 1]) + intact[at + 1 :]
            with pytest.raises(Refused):
                bucket_of(objects).topics()
        objects[name] = intact


@both
def test_an_object_under_the_name_of_another_is_refused(version: str) -> None:
    objects = objects_of(version)
    topic = bucket_of(objects).topics()["orders"]
    for like in (".seg", "head-"):
        names = [name_of(objects, topic, partition, like) for partition in (1, 0)]
        changed = objects | {names[0]: objects[names[1]]}
        with pytest.raises((Refused, KeyError)):
            records_of(bucket_of(changed), topic, 1)
    for like in (".index", ".page"):
        name = name_of(objects, topic, 0, like)
        changed = objects | {name: with_metadata(objects[name], b"tierlog.partition", b"1")}
        with pytest.raises(Refused, match="another partition"):
            records_of(bucket_of(changed), topic, 0)


@both
@pytest.mark.parametrize(
    ("like", "column", "wrong"),
    [
        (".page", "key", "its page calls it"),
        (".page", "base_offset", "its page calls it"),
        (".page", "object_bytes", "is not of the size listed"),
        (".index", "key", "its index calls it"),
        (".index", "entry_count", "and its index says"),
    ],
)
def test_a_page_that_contradicts_the_rest_is_refused(
    version: str, like: str, column: str, wrong: str
) -> None:
    objects = objects_of(version)
    topic = bucket_of(objects).topics()["orders"]
    name = name_of(objects, topic, 0, like)
    table = parquet.read_table(io.BytesIO(objects[name]))
    values = table.column(column).to_pylist()
    values[-1] += "x" if column == "key" else 1
    objects[name] = written(table.set_column(table.schema.get_field_index(column), column, [values]))
    with pytest.raises(Refused, match=wrong):
        records_of(bucket_of(objects), topic, 0)


@both
@pytest.mark.parametrize("kind", ["head-", ".seg", ".index", ".page", "/topics/", "meta/cluster.json"])
def test_an_unknown_version_is_refused(version: str, kind: str) -> None:
    objects = objects_of(version)
    topic = bucket_of(objects).topics()["orders"]
    change: Callable[[bytes], bytes] = {
        "head-": lambda data: sealed(b"\x03" + data[1:]),
        ".seg": lambda data: resealed_trailer(data, 8, 3),
        ".index": lambda data: with_metadata(data, b"tierlog.format_version", b"3"),
        ".page": lambda data: with_metadata(data, b"tierlog.format_version", b"3"),
    }.get(kind, lambda data: data.replace(b'"format_version": 1', b'"format_version": 3'))
    changed = objects | {name: change(data) for name, data in objects.items() if kind in name}
    with pytest.raises(Refused, match="format version 3 is unknown"):
        bucket = bucket_of(changed)
        bucket.topics()
        records_of(bucket, topic, 0)


@pytest.mark.parametrize("kind", ["head-", ".seg", ".index", ".page"])
def test_an_unknown_feature_is_refused(kind: str) -> None:
    objects = objects_of("v2")
    topic = bucket_of(objects).topics()["orders"]
    change: Callable[[bytes], bytes] = {
        "head-": lambda data: sealed(data[:1] + b"\x01" + data[2:]),
        ".seg": lambda data: resealed_trailer(data, 10, 1),
    }.get(kind, lambda data: with_metadata(data, b"tierlog.features", b"1"))
    changed = objects | {name: change(data) for name, data in objects.items() if kind in name}
    with pytest.raises(Refused, match="features 0x1 are unknown"):
        records_of(bucket_of(changed), topic, 0)


def test_the_reserved_field_of_the_first_version_is_ignored() -> None:
    objects = objects_of("v1")
    topic = bucket_of(objects).topics()["users"]
    changed = {
        name: resealed_trailer(data, 10, 1) if ".seg" in name else data for name, data in objects.items()
    }
    assert outcome(changed, topic, 0) == expected_of("v1")["users/0"]["records"]


@both
def test_the_reader_follows_the_newest_head(version: str) -> None:
    """Segments that go while it reads are not missed once a newer head begins behind them; before that, they are."""
    objects = objects_of(version)
    topic, newer_start = bucket_of(objects).topics()["orders"], 22
    name = name_of(objects, topic, 0, "head-")
    segments = sorted(each for each in objects if f"/{topic}/0/" in each and ".seg" in each)
    ends = {each: int(each.rpartition("/")[2].split("-")[1]) for each in segments}
    found = []
    bucket = bucket_of(objects)
    for number, (_, batch) in enumerate(bucket.batches(topic, 0)):
        found.append(batch.base_offset)
        if number == 4:
            for each in segments:
                if ends[each] <= newer_start:
                    del objects[each]
            head = objects[name]
            at = 2 if version == "v1" else 3  # version, features, sequence; then the start
            assert (head[at - 1], head[at]) == (int(name[-20:]), 3)
            newer = sealed(head[: at - 1] + bytes([head[at - 1] + 1, newer_start]) + head[at + 1 :])
            objects[f"{name[:-20]}{int(name[-20:]) + 1:020}"] = newer
    assert found == [*range(2, 12, 2), *range(newer_start, 100, 2)]
    assert records_of(bucket, topic, 0)[0].offset == newer_start
    del objects[segments[-1]]
    with pytest.raises(KeyError, match=segments[-1]):
        records_of(bucket, topic, 0)
