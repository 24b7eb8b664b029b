"""Values for the tests of decoding: a bucket with given ones, and what registry serializers write."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import pyarrow as pa

import tierlog.replay
from tests.replay_bucket import FIRST_MS, BucketMaker
from tierlog.records.records import Record, build_batch
from tierlog.replay.values.formats import Format

TOPIC = "flights"


class Sent(NamedTuple):
    """A value with headers."""

    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


Given = bytes | Sent | None


def bucket_of(root: Path, *segments: Sequence[Given]) -> BucketMaker:
    """A segment of one batch each."""
    made = BucketMaker(root)
    offset = 0
    for values in segments:
        records = [
            Record(b"k%d" % number, sent.value, FIRST_MS + number, tuple(sent.headers))
            for number, sent in enumerate(map(sent_of, values), offset)
        ]
        made.add(TOPIC, 0, bytes(build_batch(records, base_offset=offset, leader_epoch=1)))
        offset += len(values)
    made.publish()
    return made


def sent_of(given: Given) -> Sent:
    return given if isinstance(given, Sent) else Sent(given, ())


def replayed(
    root: Path, given: Format, *segments: Sequence[Given], columns: Sequence[str] | None = None
) -> tuple[pa.Table, dict[int, str]]:
    """What comes of the values, and by offset what is said of dead letters."""
    dead: list[pa.RecordBatch] = []
    reader = tierlog.replay.open(
        TOPIC,
        bucket=bucket_of(root, *segments).url,
        columns=columns,
        decode=given,
        dead_letters=dead.append,
    )
    table = reader.read_all()
    rows = [row for batch in dead for row in batch.to_pylist()]
    values = [sent_of(value).value for segment in segments for value in segment]
    assert all(row["value"] == values[row["offset"]] for row in rows)
    assert table.num_rows + len(rows) == len(values), "none is lost"
    return table, {row["offset"]: row["error"] for row in rows}


def header(schema_id: int) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big")


def avro(schema_id: int, schema: Any, value: Any) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), value)
    return header(schema_id) + body.getvalue()


def zigzag(*numbers: int) -> bytes:
    """Small ones, of one byte each."""
    return bytes(2 * number for number in numbers)
