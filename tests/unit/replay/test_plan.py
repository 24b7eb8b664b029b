"""Bounds as people say them, plans, ranges of GETs, expressions, and how options are read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiering.codec import SegmentFooter
from tiering.model import SegmentEntry
from tierlog.errors import UserError
from tierlog.replay.bounds import EARLIEST, END, Bound, Kind, bound_of
from tierlog.replay.gets import GET_BYTES, Range, get_count, is_small, ranges_of
from tierlog.replay.plan import LocalRead, Plan, SegmentRead, gaps, partition_plan
from tierlog.replay.price import price_of
from tierlog.replay.where import where_of
from tierlog.types import TopicPartition

NOW_MS = 1_800_000_000_000
FLIGHTS = TopicPartition("flights", 0)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        (17, Bound(Kind.OFFSET, 17)),
        (" 17 ", Bound(Kind.OFFSET, 17)),
        ("earliest", EARLIEST),
        ("END", END),
        ("7d", Bound(Kind.TIME, NOW_MS - 7 * 86_400_000)),
        (datetime(2027, 1, 15, 8), Bound(Kind.TIME, NOW_MS)),  # noqa: DTZ001
        (datetime(2027, 1, 15, 9, tzinfo=timezone(timedelta(hours=1))), Bound(Kind.TIME, NOW_MS)),
    ],
)
def test_bounds(text: Any, bound: Bound) -> None:
    assert bound_of(text, "--from", NOW_MS) == bound


@pytest.mark.parametrize("text", ["", "soon", "-5", "7 days"])
def test_bounds_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match=r"--from .*: expected an offset, earliest, end, a time, as"):
        bound_of(text, "--from", NOW_MS)


def segment(base: int, end: int, *, bytes_per_offset: int = 1_000, first_ms: int = 0) -> SegmentRead:
    size = (end - base) * bytes_per_offset
    entry = SegmentEntry(base, end, 1, bytes(16), size, size, size + 500, first_ms or base, end, end, 1)
    return SegmentRead("flights", 0, base, end, "s3://bucket", f"{base}", entry)


def test_a_plan_of_segments_and_what_no_bucket_holds() -> None:
    plan = partition_plan(FLIGHTS, 15, 55, [segment(0, 10), segment(10, 20), segment(20, 40)], 100)
    first, second, local = plan.reads
    assert [(read.start_offset, read.end_offset) for read in plan.reads] == [(15, 20), (20, 40), (40, 55)]
    assert isinstance(first, SegmentRead)
    assert isinstance(second, SegmentRead)
    assert isinstance(local, LocalRead)
    assert (first.is_cut, second.is_cut) == (True, False)
    assert (plan.offsets, plan.remote_bytes, plan.local_bytes) == (40, 25_000, 1_500)


@given(st.integers(0, 30), st.integers(0, 30), st.lists(st.integers(1, 9), max_size=5), st.integers(0, 9))
def test_reads_adjoin(start: int, length: int, sizes: list[int], base: int) -> None:
    segments, at = [], base
    for size in sizes:
        segments.append(segment(at, at + size))
        at += size
    plan = partition_plan(FLIGHTS, start, start + length, segments)
    bounds = [start, *(read.end_offset for read in plan.reads)]
    assert [read.start_offset for read in plan.reads] == bounds[:-1]
    assert bounds[-1] == start + length
    for read in plan.reads:
        if isinstance(read, LocalRead):
            assert all(
                read.end_offset <= s.start_offset or s.end_offset <= read.start_offset for s in segments
            )


@given(
    st.integers(0, 20),
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=4),
)
def test_gaps(start: int, length: int, lengths: list[tuple[int, int]]) -> None:
    done = [(first, first + size) for first, size in lengths]
    left = {offset for first, end in gaps(start, start + length, done) for offset in range(first, end)}
    covered = {offset for first, end in done for offset in range(first, end)}
    assert left == set(range(start, start + length)) - covered


def test_partitions_are_read_in_order_of_time() -> None:
    one = partition_plan(FLIGHTS, 0, 30, [segment(0, 10, first_ms=100), segment(10, 20, first_ms=50)])
    other = TopicPartition("flights", 1)
    two = partition_plan(other, 0, 10, [segment(0, 10, first_ms=70)])
    order = [(read.partition, read.start_offset) for read in Plan((one, two._replace(partition=1))).reads()]
    assert order == [(0, 0), (0, 10), (0, 0)] or [offset for _, offset in order] == [0, 0, 10, 20]


def test_the_price_of_a_plan() -> None:
    cold = segment(0, 1_000_000)
    cold = cold._replace(entry=cold.entry._replace(storage_class=2))
    plan = Plan((partition_plan(FLIGHTS, 0, 1_000_000, [cold]),))
    assert plan.gets == 1 + -(-1_000_000_000 // GET_BYTES)
    price = price_of(plan)
    assert price == pytest.approx(0.03 * 1e9 / 2**30 + plan.gets * 0.01 / 1_000)
    assert price_of(Plan((partition_plan(FLIGHTS, 0, 10, [cold._replace(store="dir:///x")]),))) is None
    assert plan.seconds(16, 1, 0) < plan.seconds(16, 1, 100_000)


def test_gets_are_whole_chunks() -> None:
    footer = SegmentFooter(0, 10, 10 << 20)
    ranges = ranges_of(Range((1 << 20) + 5, (9 << 20) + 7), footer)
    assert ranges == [Range(1 << 20, 5 << 20), Range(5 << 20, 9 << 20), Range(9 << 20, 10 << 20)]
    assert is_small(GET_BYTES)
    assert not is_small(GET_BYTES + 1)
    assert (get_count(1_000, False), get_count(1_000, True), get_count(GET_BYTES + 1, False)) == (1, 2, 3)


ROWS = pa.RecordBatch.from_pydict(
    {
        "topic": pa.array(["flights", "delays", "flights"]).dictionary_encode(),
        "partition": pa.array([0, 1, 2], pa.int32()),
        "offset": pa.array([5, 6, 7], pa.int64()),
        "timestamp": pa.array([0, NOW_MS, None], pa.timestamp("ms", tz="UTC")),
        "key": pa.array([b"AF", None, b"it's"], pa.binary()),
        "value": pa.array([b"late", b"on time", b""], pa.binary()),
    }
)


@pytest.mark.parametrize(
    ("text", "offsets"),
    [
        ("partition = 1", [6]),
        ("partition <> 1 and offset >= 6", [7]),
        ("not (partition = 1 or partition = 2)", [5]),
        ("key = 'AF' OR key = 'it''s'", [5, 7]),
        ("key is null", [6]),
        ("key is not null and value != 'late'", [7]),
        ("value like '%time'", [6]),
        ("topic = 'flights' and topic like 'fl%'", [5, 7]),
        ("timestamp >= '2027-01-15T08:00:00'", [6]),
        ("timestamp < '2027-01-15T08:00:00Z'", [5]),
    ],
)
def test_where(text: str, offsets: list[int]) -> None:
    where = where_of(text)
    assert ROWS.filter(where.expression)["offset"].to_pylist() == offsets
    assert where.columns <= set(ROWS.schema.names)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected more at its end"),
        ("price = 3", "expected a column of topic, partition, .* at 'price = 3'"),
        ("offset = 'x'", "expected a value for offset, such as 7 or 'text' at \"'x'\""),
        ("key = 7", "expected a value for key"),
        ("timestamp = 'noon'", "expected a value for timestamp"),
        ("(offset = 3", r"expected \) at its end"),
        ("offset = 3 4", "expected and, or, or the end at '4'"),
        ("offset ~ 3", "not understood at '~ 3'"),
        ("offset is 3", "expected null"),
        ("not " * 60 + "offset = 3", "too deep"),
    ],
)
def test_expressions_that_are_none(text: str, told: str) -> None:
    with pytest.raises(UserError, match=f"--where: {told}"):
        where_of(text)


def test_a_bound_is_told_as_it_was_meant() -> None:
    told = [str(each) for each in (EARLIEST, Bound(Kind.OFFSET, 5), Bound(Kind.TIME, NOW_MS))]
    assert told == [
        "earliest",
        "5",
        datetime.fromtimestamp(NOW_MS / 1000, UTC).isoformat(timespec="milliseconds"),
    ]
