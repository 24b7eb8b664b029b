"""Reads in no order: each record once, and Parquet that is killed by a fault goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tierlog.replay
from tests.replay_bucket import FIRST_MS, BucketMaker, Shape
from tierlog.errors import UserError
from tierlog.records.records import Record, build_batch
from tierlog.replay.bounds import EARLIEST, END
from tierlog.replay.decode.schema import schema_of
from tierlog.replay.lanes import all_chunks
from tierlog.replay.plan import LocalRead, PartitionPlan, Plan
from tierlog.replay.reading import Chunk, Reading
from tierlog.replay.resolve import Origin, Request
from tierlog.replay.running.job import Job
from tierlog.replay.running.run import run

REQUEST = Request(("flights",), EARLIEST, END)
RECORDS, SEGMENTS = 200, 12


@pytest.fixture
def made(tmp_path: Path) -> BucketMaker:
    bucket = BucketMaker(tmp_path / "bucket")
    for partition in (0, 1):
        bucket.fill("flights", partition, SEGMENTS, RECORDS, Shape(100, 40))
    return bucket


async def chunks_of(url: str) -> list[Chunk]:
    origin = Origin(None, url)
    try:
        await origin.start()
        plan = await origin.plan(REQUEST)
        reading = Reading(origin, schema_of(["offset"]), parallel=2, beside=3)
        return [chunk async for chunk in all_chunks(reading, plan)]
    finally:
        await origin.close()


async def test_each_record_once(made: BucketMaker) -> None:
    """And beside each other: some chunk comes before an earlier one of its partition."""
    found = await chunks_of(made.url)
    for partition in (0, 1):
        mine = [chunk for chunk in found if chunk.where.partition == partition]
        starts = [chunk.start_offset for chunk in mine]
        offsets = [n for chunk in mine if chunk.batch is not None for n in chunk.batch["offset"].to_pylist()]
        assert sorted(offsets) == list(range(RECORDS * SEGMENTS))
        assert starts != sorted(starts)


def rows_of(batches: Iterable[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("decode", [None, "json"])
async def test_the_api_reads_the_same_records_in_no_order(made: BucketMaker, decode: Any) -> None:
    for first in range(0, 900, 30):
        records = [Record(None, b'{"n": %d}' % number, FIRST_MS) for number in range(first, first + 30)]
        made.add("events", 0, build_batch(records, base_offset=first))
    made.publish()
    given = {"bucket": made.url, "start": 7, "end": 890, "decode": decode}
    ordered = rows_of(tierlog.replay.open("events", **given))
    assert [row["offset"] for row in ordered] == list(range(7, 890))
    found = rows_of(tierlog.replay.open("events", parallel=3, unordered=True, **given))
    streamed = [batch async for batch in tierlog.replay.stream("events", unordered=True, **given)]
    for rows in (found, rows_of(streamed)):
        assert rows != ordered
        assert sorted(rows, key=lambda row: row["offset"]) == ordered


@pytest.mark.parametrize("parallel", [0, 33])
def test_more_gets_than_memory_allows_are_refused(made: BucketMaker, parallel: int) -> None:
    with pytest.raises(UserError, match=f"parallel {parallel}: expected 1 to 32"):
        tierlog.replay.open("flights", bucket=made.url, parallel=parallel)


async def test_an_error_ends_all(made: BucketMaker) -> None:
    path = made.segment_paths()[-1]
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(UserError, match="asked 3 times, these bytes are damaged where they are kept"):
        await chunks_of(made.url)


def test_parquet_goes_on_after_an_error(made: BucketMaker, tmp_path: Path) -> None:
    """Files of some stretches only; what they cover is not read again."""
    broken = made.segment_paths()[SEGMENTS // 2]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:5_000] + b"\0" * (len(whole) - 5_000))
    target = tmp_path / "out"
    job = Job(REQUEST, None, made.url, f"parquet:{target}", file_bytes=2_000, is_ordered=False)
    job = job._replace(resume=tmp_path / "state.json")
    with pytest.raises(UserError, match="damaged where they are kept"):
        asyncio.run(run(job, lambda plan: True, lambda progress: None))
    broken.write_bytes(whole)
    assert list(target.rglob("*.parquet"))
    left: list[int] = []
    done = asyncio.run(run(job, lambda plan: bool(left.append(plan.offsets)) or True, lambda progress: None))
    assert done is not None and done.records == left[0] < 2 * RECORDS * SEGMENTS
    assert set(done.left.values()) == {0}
    for partition in (0, 1):
        files = sorted((target / "flights" / str(partition)).glob("*.parquet"))
        offsets = [n for path in files for n in parquet.ParquetFile(path).read()["offset"].to_pylist()]
        assert offsets == list(range(RECORDS * SEGMENTS))


@given(st.lists(st.lists(st.integers(0, 100), max_size=6), max_size=4), st.integers(1, 9))
def test_stretches_have_each_read_once(sizes: list[list[int]], count: int) -> None:
    parts = []
    for partition, of_reads in enumerate(sizes):
        reads = [LocalRead("t", partition, n, n + 1, size) for n, size in enumerate(of_reads)]
        parts.append(PartitionPlan("t", partition, 0, len(reads), tuple(reads)))
    plan = Plan(tuple(parts))
    found = plan.stretches(count)
    assert [read for stretch in found for read in stretch] == [read for part in parts for read in part.reads]
    assert all(found) and len(found) <= count
    largest = max((read.size_bytes for part in parts for read in part.reads), default=0)
    for stretch in found:
        assert sum(read.size_bytes for read in stretch) <= plan.local_bytes / count + largest
