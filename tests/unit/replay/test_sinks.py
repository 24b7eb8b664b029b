"""Sinks without the command line: objects of a bucket, a second replay into the same directory, lines that are cut back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.replay_bucket import BucketMaker, Shape
from tierlog.errors import UserError
from tierlog.replay.bounds import EARLIEST, END
from tierlog.replay.decode.schema import SCHEMA, schema_of
from tierlog.replay.reading import Chunk
from tierlog.replay.resolve import Request
from tierlog.replay.running.job import Job
from tierlog.replay.running.run import run
from tierlog.replay.running.state import State, load, save
from tierlog.replay.sinks.files import TEMPORARY, BucketFiles, DirectoryFiles
from tierlog.replay.sinks.jsonl import JsonlSink
from tierlog.replay.sinks.parquet import ParquetSink, leaves
from tierlog.types import TopicPartition

FLIGHTS = TopicPartition("flights", 0)
OFFSETS = schema_of(["offset"])


def chunk(start: int, end: int, where: TopicPartition = FLIGHTS) -> Chunk:
    batch = pa.RecordBatch.from_arrays([pa.array(range(start, end), pa.int64())], schema=OFFSETS)
    return Chunk(where, batch, start, end, end - start, 8 * (end - start))


def state_of(*ranges: tuple[str, int, int, int]) -> State:
    return State("parquet:x", [], "", list(ranges))


def test_objects_of_a_bucket_appear_whole(tmp_path: Path) -> None:
    sink = ParquetSink(BucketFiles(f"dir://{tmp_path}/lake"), OFFSETS, "lake", 1_000)
    assert sink.start(state_of(), is_resumed=False) == {}
    for start in range(0, 40_000, 10_000):
        sink.write(chunk(start, start + 10_000))
    sink.close()
    again = ParquetSink(BucketFiles(f"dir://{tmp_path}/lake"), OFFSETS, "lake")
    done = again.start(state_of(), is_resumed=True)[FLIGHTS]
    assert sorted(done)[0][0] == 0
    assert [end for _, end in sorted(done)][-1] == 40_000
    found = [
        parquet.ParquetFile(path).read()["offset"].to_pylist() for path in sorted(tmp_path.rglob("*.parquet"))
    ]
    assert [offset for part in found for offset in part] == list(range(40_000))
    again.close()


def test_a_file_ends_where_ranges_do_not_adjoin(tmp_path: Path) -> None:
    sink = ParquetSink(DirectoryFiles(tmp_path), OFFSETS, "x")
    sink.start(state_of(), is_resumed=False)
    for each in (chunk(0, 5), chunk(5, 9), chunk(20, 30), chunk(30, 30)):
        sink.write(each)
    sink.close()
    names = sorted(path.name for path in tmp_path.rglob("*.parquet"))
    assert names == [f"{0:020}-{9:020}.parquet", f"{20:020}-{30:020}.parquet"]


def test_each_decoded_field_is_a_column_with_statistics(tmp_path: Path) -> None:
    inner = pa.struct({"seats": pa.int32(), "tags": pa.list_(pa.string())})
    kind = pa.struct(
        {"id": pa.int64(), "plane": inner, "legs": pa.list_(inner), "at": pa.map_(pa.string(), inner)}
    )
    schema = pa.schema({"offset": pa.int64(), "value": kind})
    row = {"seats": 1, "tags": ["x"]}
    value = {"id": 7, "plane": row, "legs": [row], "at": [("k", row)]}
    batch = pa.RecordBatch.from_pylist([{"offset": 0, "value": value}], schema=schema)
    sink = ParquetSink(DirectoryFiles(tmp_path), schema, "x")
    sink.start(state_of(), is_resumed=False)
    sink.write(Chunk(FLIGHTS, batch, 0, 1, 1, 8))
    sink.close()
    (path,) = tmp_path.rglob("*.parquet")
    group = parquet.read_metadata(path).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert [column.path_in_schema for column in columns] == list(leaves(schema))
    assert all(column.is_stats_set for column in columns)
    assert [column.has_dictionary_page for column in columns] == [False] + [True] * (len(columns) - 1)


def test_few_files_are_open_at_once(tmp_path: Path) -> None:
    sink = ParquetSink(DirectoryFiles(tmp_path), OFFSETS, "x")
    sink.start(state_of(), is_resumed=False)
    for partition in range(12):
        sink.write(chunk(0, 5, TopicPartition("flights", partition)))
        assert len(list(tmp_path.glob(f"{TEMPORARY}-*"))) <= 4
    sink.close()
    assert len(list(tmp_path.rglob("*.parquet"))) == 12


def test_one_replay_at_a_time_and_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY}-3").write_bytes(b"half")
    files = DirectoryFiles(tmp_path)
    assert files.names() == []
    with pytest.raises(UserError, match="another replay writes to"):
        DirectoryFiles(tmp_path)
    files.close()
    DirectoryFiles(tmp_path).close()
    (tmp_path / "notes.txt").write_text("mine")
    sink = ParquetSink(DirectoryFiles(tmp_path), OFFSETS, "x")
    with pytest.raises(UserError, match=r"x is not empty: it holds notes\.txt"):
        sink.start(state_of(), is_resumed=False)
    sink.close()


def test_lines_are_cut_back_to_what_is_settled(tmp_path: Path) -> None:
    path, state = tmp_path / "lines", state_of(("flights", 0, 0, 100))
    sink = JsonlSink(path)
    sink.start(state, is_resumed=False)
    sink.write(chunk(0, 10))
    sink.settle(state)
    sink.write(chunk(10, 20))
    sink.close()
    again = JsonlSink(path)
    assert again.start(state, is_resumed=True) == {FLIGHTS: [(0, 10)]}
    again.write(chunk(10, 12))
    again.close()
    assert [json.loads(line)["offset"] for line in path.read_text().splitlines()] == list(range(12))
    path.write_text("")
    with pytest.raises(UserError, match="is shorter than it was"):
        JsonlSink(path).start(state, is_resumed=True)


def test_the_file_to_resume_from(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    assert load(path) is None
    state = state_of(("flights", 0, 5, 9))
    state.reached(FLIGHTS, 7)
    save(path, state)
    assert load(path) == state
    for text in ("{", "{}", '{"format_version": 1, "x": 2}'):
        path.write_text(text)
        with pytest.raises(UserError, match="is no file to resume from"):
            load(path)
    path.write_text('{"format_version": 9}')
    with pytest.raises(UserError, match="is of another release"):
        load(path)


def test_speed_is_that_of_the_records(tmp_path: Path) -> None:
    """Segments that are 40 s apart, at 100 times that: 0.8 s for three of them."""
    bucket = BucketMaker(tmp_path / "bucket")
    bucket.fill("flights", 0, 3, 40, Shape(100, 40, ms_apart=1_000))
    request = Request(("flights",), EARLIEST, END)
    loop_times: list[float] = []

    async def timed() -> None:
        loop = asyncio.get_running_loop()
        job = Job(request, None, bucket.url, "null", speed=100.0)
        await run(job, lambda plan: True, lambda progress: loop_times.append(loop.time()))

    asyncio.run(timed())
    assert 0.75 <= loop_times[-1] - loop_times[0] < 20
    assert "timestamp" in SCHEMA.names
