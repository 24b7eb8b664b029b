"""Reads of buckets that were made without a broker: damage, changes meanwhile, aborted transactions, bounds of memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import tierlog.replay
from tests.e2e.tiered import figure
from tests.replay_bucket import BucketMaker, Shape, batches
from tiering.codec import AbortedTransaction
from tiering.objects.opening import open_store
from tiering.objects.port import Buffer, ObjectStore
from tiering.objects.wrapping import WrappedStore
from tierlog.errors import UserError
from tierlog.records.batch import Compression, parse_header, walk
from tierlog.records.control import EndTransactionMarker, build_end_transaction_marker
from tierlog.records.records import Record, build_batch
from tierlog.replay import gets, reading
from tierlog.replay.bounds import EARLIEST, END
from tierlog.replay.decode.schema import SCHEMA
from tierlog.replay.ledger import Caller, ReplayLedger
from tierlog.replay.reading import PIECES_AHEAD, Reading
from tierlog.replay.resolve import Origin, Request
from tierlog.replay.segment import aborted_batches
from tierlog.types import TopicPartition

SHAPE = Shape(100, 40)


@pytest.fixture
def made(tmp_path: Path) -> BucketMaker:
    bucket = BucketMaker(tmp_path / "bucket")
    bucket.fill("flights", 0, 3, 400, SHAPE)
    return bucket


def offsets(bucket: BucketMaker, **arguments: Any) -> list[int]:
    found: list[int] = (
        tierlog.replay.open("flights", bucket=bucket.url, **arguments).read_all()["offset"].to_pylist()
    )
    return found


@pytest.mark.parametrize("get_bytes", [1 << 20, 1 << 30])
def test_batches_across_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, get_bytes: int) -> None:
    """Chunks of 1 MiB: batches lie across them, the last one of them whole, and one is longer than two."""
    monkeypatch.setattr(gets, "GET_BYTES", get_bytes)
    bucket = BucketMaker(tmp_path / "bucket")
    small = b"".join(batches(30_000, Shape(100, 333)))
    large = build_batch([Record(b"k", bytes(2_500_000), 1)] * 2, base_offset=30_000)
    rest = b"".join(batches(5_000, Shape(100, 10), first_offset=30_002))
    bucket.add("flights", 0, small + bytes(large) + rest)
    bucket.publish()
    assert offsets(bucket) == list(range(35_002))
    assert offsets(bucket, start=29_999, end=30_003) == [29_999, 30_000, 30_001, 30_002]
    assert offsets(bucket, start=12_345, end=12_346) == [12_345]


def test_a_segment_that_was_replaced_meanwhile(made: BucketMaker) -> None:
    """The object goes after the plan: its successor is found in a newer head, without a gap and without repetition."""

    async def run() -> list[int]:
        origin = Origin(None, made.url)
        await origin.start()
        plan = await origin.plan(Request(("flights",), EARLIEST, END))
        made.replace("flights", 0, 1)
        made.publish()
        found: list[int] = []
        async for chunk in Reading(origin, SCHEMA).chunks(plan.reads()):
            found += chunk.batch["offset"].to_pylist() if chunk.batch is not None else []
        await origin.close()
        return found

    assert asyncio.run(run()) == list(range(1_200))


def test_a_segment_that_is_lost(made: BucketMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHANGED_WAIT_S", 0.1)
    monkeypatch.setattr(reading, "CHANGED_PAUSE_S", 0.01)
    made.segment_paths()[1].unlink()
    with pytest.raises(UserError, match="names this object still: see tierlog storage doctor"):
        offsets(made)


def test_a_bucket_that_is_not_mounted_any_more(made: BucketMaker) -> None:
    """It goes after the plan."""

    async def run() -> None:
        origin = Origin(None, made.url, caller=Caller(tell=told.append))
        await origin.start()
        plan = await origin.plan(Request(("flights",), EARLIEST, END))
        made.root.rename(made.root.with_name("elsewhere"))
        try:
            async for _ in Reading(origin, SCHEMA).chunks(plan.reads()):
                pass
        finally:
            await origin.close()

    told: list[str] = []
    with pytest.raises(UserError, match="the bucket holds nothing of flights-0 any more: is it mounted"):
        asyncio.run(run())
    assert not made.root.exists()
    assert len(told) == 1


def test_what_retention_has_deleted(made: BucketMaker) -> None:
    made.raise_start("flights", 0, 450)
    made.publish()
    assert offsets(made) == list(range(450, 1_200))
    with pytest.raises(
        UserError, match="flights-0 begins at offset 450: --from 10 has been deleted; use --from earliest"
    ):
        offsets(made, start=10)


def test_damage_ends_a_replay_behind_what_is_whole(made: BucketMaker) -> None:
    path = made.segment_paths()[1]
    data = bytearray(path.read_bytes())
    data[3_000] ^= 1
    path.write_bytes(data)
    reader = tierlog.replay.open("flights", bucket=made.url)
    found: list[int] = []
    with pytest.raises(UserError, match="fail their checksum"):
        for batch in reader:
            found += batch["offset"].to_pylist()
    assert found == list(range(400))


class _DamagingOnce(WrappedStore):
    """The first GET of each range comes with a bit changed."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self._damaged: set[tuple[str, int]] = set()

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        data = bytearray(await super().get_range(key, start, end))
        if (key, start) not in self._damaged:
            self._damaged.add((key, start))
            data[len(data) // 2] ^= 1
        return data


@pytest.mark.parametrize("get_bytes", [1 << 16, 1 << 20])
def test_what_was_damaged_on_the_way_is_asked_for_again(
    made: BucketMaker, monkeypatch: pytest.MonkeyPatch, get_bytes: int
) -> None:
    """Footers and data, apart and together: each record once."""
    monkeypatch.setattr(gets, "GET_BYTES", get_bytes)
    monkeypatch.setattr(
        "tierlog.replay.bucket.open_store", lambda url, **given: _DamagingOnce(open_store(url, **given))
    )
    assert offsets(made) == list(range(1_200))


class TestTransactions:
    def records(self) -> bytes:
        def batch(base: int, producer: int) -> bytes:
            records = [Record(b"%d" % producer, b"v", 1)] * 2
            made = build_batch(
                records,
                base_offset=base,
                producer_id=producer,
                producer_epoch=0,
                base_sequence=base,
                is_transactional=True,
            )
            return bytes(made)

        def marker(base: int, producer: int, commit: bool) -> bytes:
            made = build_end_transaction_marker(
                EndTransactionMarker(commit, 1),
                producer_id=producer,
                producer_epoch=0,
                timestamp_ms=1,
                base_offset=base,
            )
            return bytes(made)

        return b"".join(
            [
                batch(0, 7),
                batch(2, 8),
                marker(4, 7, False),
                batch(5, 7),
                marker(7, 8, True),
                marker(8, 7, True),
            ]
        )

    def test_aborted_ones_are_left_out_by_the_index(self, tmp_path: Path) -> None:
        bucket = BucketMaker(tmp_path / "bucket")
        bucket.add("flights", 0, self.records(), [AbortedTransaction(7, 0, 4, 5)])
        bucket.publish()
        assert offsets(bucket) == [2, 3, 5, 6]
        assert offsets(bucket, committed=False) == [0, 1, 2, 3, 5, 6]

    def test_aborted_ones_of_a_fetch(self) -> None:
        data = self.records()
        is_aborted = aborted_batches(data, len(data), [(7, 0)])
        found = [header.base_offset for _, header in walk(data) if is_aborted(header)]
        assert found == [0]
        assert not aborted_batches(data, len(data), [])(parse_header(data, 0))


def test_damaged_topics_and_empty_buckets(tmp_path: Path) -> None:
    bucket = BucketMaker(tmp_path / "bucket")
    with pytest.raises(UserError, match="no topic flights; tierlog topic list shows"):
        offsets(bucket)
    bucket.topic("flights")
    with pytest.raises(UserError, match="nothing of flights has been tiered yet"):
        offsets(bucket)


class _Counting(WrappedStore):
    """How many GETs are under way or wait to be read."""

    at_once = most = 0

    async def get_range(self, key: str, start: int, end: int) -> Any:
        _Counting.at_once += 1
        _Counting.most = max(_Counting.most, _Counting.at_once)
        try:
            await asyncio.sleep(0.001)
            return await self.inner.get_range(key, start, end)
        finally:
            _Counting.at_once -= 1


@pytest.mark.parametrize(
    ("segments", "records", "parallel", "most", "asked"),
    [(40, 100, 3, 3, 40), (40, 100, 8, 8, 40), (1, 80_000, 8, 2, 11)],
    ids=["small objects", "more of them", "a large one"],
)
async def test_gets_at_once_are_bounded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    segments: int,
    records: int,
    parallel: int,
    most: int,
    asked: int,
) -> None:
    """A slow sink: what waits is bounded too. Of large objects, so many GETs as hold 2 MiB."""
    monkeypatch.setattr(gets, "GET_BYTES", 1 << 20)
    monkeypatch.setattr(reading, "AHEAD_BYTES", 2 << 20)
    bucket = BucketMaker(tmp_path / "bucket")
    bucket.fill("flights", 0, segments, records, SHAPE)
    whole = ReplayLedger.counted
    monkeypatch.setattr(ReplayLedger, "counted", lambda *given: _Counting(whole(*given)))
    monkeypatch.setattr(_Counting, "most", 0)
    begun: list[str] = []
    origin = Origin(None, bucket.url)
    await origin.start()
    plan = await origin.plan(Request(("flights",), EARLIEST, END))
    inner = Reading._get

    async def counted(self: Reading, *arguments: Any) -> Any:
        begun.append(arguments[1])
        return await inner(self, *arguments)

    monkeypatch.setattr(Reading, "_get", counted)
    read = 0
    async for chunk in Reading(origin, None, parallel=parallel).chunks(plan.reads()):
        read += chunk.next_offset > chunk.start_offset
        ahead = max(parallel, reading.FOOTERS_AHEAD) + PIECES_AHEAD + parallel if segments > 1 else 2
        assert len(begun) <= read + ahead + 2
    await origin.close()
    assert _Counting.most == most
    assert len(begun) == asked


def test_memory_does_not_grow_with_the_range(tmp_path: Path) -> None:
    """Processes of their own: 250 MB of log, packed to much less, in 300 MB; as Arrow, in no order, and as Parquet."""
    bucket = BucketMaker(tmp_path / "bucket")
    bucket.fill("flights", 0, 1, 24_000, Shape(1_000, 300, Compression.ZSTD))
    for _ in range(9):
        bucket.repeat("flights", 0)
    bucket.publish()
    replay = ["replay", "flights", "--bucket", bucket.url, "--parallel", "32"]
    replay += ["--sink", f"parquet:{tmp_path}/out"]
    reading = f"records += sum(b.num_rows for b in tierlog.replay.open('flights', bucket={bucket.url!r}%s))"
    programs = {
        "Arrow": "import tierlog.replay\n" + reading % "",
        "Arrow in no order": "import tierlog.replay\n" + reading % ", unordered=True, parallel=16",
        "Parquet": f"from tierlog.cli.app import app; app({replay!r}, standalone_mode=False)",
    }
    for name, work in programs.items():
        program = (
            f"import re\nrecords = 0\n{work}\n"
            # Not ru_maxrss, which begins with what the starting process has.
            "print(records, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        records, peak_kib = map(int, done.stdout.split())
        figure(f"{name} in {peak_kib // 1024} MiB")
        assert records in (0, 240_000) and peak_kib * 1024 <= 300_000_000
    found = [parquet.read_metadata(path).num_rows for path in (tmp_path / "out").rglob("*.parquet")]
    assert sum(found) == 240_000


def test_a_reader_that_is_given_up_ends_its_thread(made: BucketMaker) -> None:
    reader = tierlog.replay.open("flights", bucket=made.url)
    batch = reader.read_next_batch()
    assert isinstance(batch, pa.RecordBatch)
    (thread,) = [each for each in threading.enumerate() if each.name == "replay"]
    reader.close()
    del reader
    thread.join(20)
    assert not thread.is_alive()


async def test_a_plan_of_one_partition_when_asked_again(made: BucketMaker) -> None:
    origin = Origin(None, made.url)
    await origin.start()
    plan = await origin.reads_of(TopicPartition("flights", 0), 10, 900)
    assert [(read.start_offset, read.end_offset) for read in plan.reads] == [
        (10, 400),
        (400, 800),
        (800, 900),
    ]
    await origin.close()
