"""Replays of a running broker's topic: from bucket and broker together, from the bucket alone, by time, by offset."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

import tierlog.replay
import tierlog.sql
from tests.bucket_reader import Bucket
from tests.e2e.tiered import Row, create, hurried, is_tiered, produce, topic_id, until
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import UserError
from tierlog.replay.cluster import Cluster, Fetched
from tierlog.types import TopicPartition

DAY_MS = 86_400_000
FIRST_MS = 1_700_000_000_000
TIERED_COUNT, LOCAL_COUNT = 2_400, 40


class World(NamedTuple):
    broker: BrokerProcess
    rows: list[Row]
    """All that was acknowledged, a minute of record time apart."""

    @property
    def bucket(self) -> str:
        return f"dir://{self.broker.objects}"

    def within(self, start_ms: int, end_ms: int) -> list[Row]:
        return [row for row in self.rows if start_ms <= row.timestamp < end_ms]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with hurried(tmp_path_factory.mktemp("replay")) as broker:
        create(broker, "flights", partitions=2)
        times = range(FIRST_MS, FIRST_MS + 10**9, 60_000)
        rows = produce(broker, "flights", TIERED_COUNT, partitions=2, codec="zstd", timestamps=times)
        until(lambda: is_tiered(broker, "flights"))
        broker.stop()
        broker.start()  # which copies the heads at once
        later = range(times[TIERED_COUNT], times[-1], 60_000)
        rows += produce(broker, "flights", LOCAL_COUNT, partitions=2, codec="lz4", timestamps=later)
        bucket, topic = Bucket.of_directory(broker.objects), topic_id(broker, "flights")
        until(lambda: all(bucket.head(topic, partition).end > 900 for partition in (0, 1)))
        yield World(broker, sorted(rows))


def rows_of(table: pa.Table) -> list[Row]:
    found = table.select(["partition", "offset", "key", "value"]).to_pylist()
    times = table["timestamp"].cast(pa.int64()).to_pylist()
    return sorted(Row(*row.values(), time) for row, time in zip(found, times, strict=True))


def replayed(world: World, **arguments: Any) -> pa.Table:
    return tierlog.replay.open("flights", bootstrap=world.broker.bootstrap, **arguments).read_all()


def test_everything_once(world: World) -> None:
    assert rows_of(replayed(world, unordered=True, parallel=4)) == world.rows
    found = replayed(world)
    assert rows_of(found) == world.rows
    assert set(found["topic"].to_pylist()) == {"flights"}
    for partition in (0, 1):
        offsets = found.filter(pa.compute.field("partition") == partition)["offset"].to_pylist()
        assert offsets == sorted(offsets)


def test_sql_reads_bucket_and_broker_as_one_table(world: World) -> None:
    """A range that begins in the tier and ends behind it."""
    start, end = FIRST_MS + 30 * 3_600_000, FIRST_MS + 10**9
    statement = (
        'SELECT partition, "offset", key, value, epoch_ms(timestamp) FROM flights '
        f"WHERE timestamp >= make_timestamptz({start * 1_000}) AND timestamp < make_timestamptz({end * 1_000})"
    )
    with tierlog.sql.connect(bootstrap=world.broker.bootstrap) as database:
        reads = database.reads(statement)
        assert sorted(Row(*row) for row in database.query(statement, reads).fetchall()) == world.within(
            start, end
        )
    assert 0 < reads[0].plan.offsets < len(world.rows)
    assert reads[0].plan.local_bytes and reads[0].plan.remote_bytes


def test_by_time(world: World) -> None:
    start, end = FIRST_MS + 3 * 3_600_000, FIRST_MS + 30 * 3_600_000
    found = replayed(world, start="2023-11-15T01:13:20Z", end="2023-11-16T04:13:20+00:00")
    assert rows_of(found) == world.within(start, end)
    assert len(world.within(start, end)) == 27 * 60
    ago_s = round(time.time()) - FIRST_MS // 1_000
    assert len(rows_of(replayed(world, start=f"{ago_s}s"))) > 2_000


def test_by_offset(world: World) -> None:
    found = replayed(world, start=101, end=1_203, partitions=[1])
    assert rows_of(found) == [row for row in world.rows if row.partition == 1 and 101 <= row.offset < 1_203]


def test_without_any_broker(world: World) -> None:
    found = tierlog.replay.open("flights", bucket=world.bucket).read_all()
    rows = rows_of(found)
    assert rows == [row for row in world.rows if row in set(rows)]
    assert len(rows) > 1_800
    middle = FIRST_MS + 700 * 60_000
    found = tierlog.replay.open("flights", bucket=world.bucket, end=_iso(middle)).read_all()
    assert rows_of(found) == world.within(0, middle)


def test_columns(world: World) -> None:
    found = replayed(world, columns=["offset", "partition"], end=10)
    assert found.schema.names == ["offset", "partition"]
    assert found.num_rows == 20


async def test_a_stream_for_asyncio(world: World) -> None:
    count = 0
    async for batch in tierlog.replay.stream("flights", bootstrap=world.broker.bootstrap):
        assert batch.num_rows
        count += batch.num_rows
    assert count == len(world.rows)


def test_a_reader_that_is_given_up_ends(world: World) -> None:
    reader = tierlog.replay.open("flights", bootstrap=world.broker.bootstrap)
    assert reader.read_next_batch().num_rows
    del reader


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"partitions": [7]}, "flights has no partition 7; it has 2, from 0 to 1"),
        ({"columns": ["price"]}, "no column price; there are topic, partition"),
        ({"start": 99_999}, "flights-0 ends at offset 1220: --from 99999 is behind it"),
        ({"start": 20, "end": 10}, "--from 20 is behind --to 10"),
        ({"start": "yesterday"}, "start yesterday: expected an offset, earliest, end, a time, as"),
        ({"start": "1h"}, "there are no records from .* look with --from earliest"),
        ({"bucket": "dir:///nowhere"}, "holds no cluster: there is no meta/cluster.json"),
        ({"bucket": "ftp://x"}, "the scheme must be one of"),
    ],
)
def test_mistakes(world: World, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        replayed(world, **arguments)


def test_a_topic_that_is_not_there(world: World) -> None:
    for where in ({"bootstrap": world.broker.bootstrap}, {"bucket": world.bucket}):
        with pytest.raises(UserError, match="no topic flight; did you mean flights"):
            tierlog.replay.open("flight", **where)
    with pytest.raises(UserError, match=r"cannot reach 127\.0\.0\.1:1"):
        tierlog.replay.open("flights", bootstrap="127.0.0.1:1")
    with pytest.raises(UserError, match="--bootstrap-server HOST:PORT, or its bucket with --bucket URL"):
        tierlog.replay.open("flights")


def test_a_fetch_that_is_damaged_on_the_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a broker: asked for again, and not for ever."""
    fetch, left = Cluster.fetch, 2

    def damaged(self: Cluster, where: TopicPartition, offset: int) -> Fetched:
        nonlocal left
        found = fetch(self, where, offset)
        left -= 1
        if left < 0:
            return found
        records = bytearray(found.records)
        records[len(records) // 2] ^= 1
        return found._replace(records=bytes(records))

    monkeypatch.setattr(Cluster, "fetch", damaged)
    assert rows_of(replayed(world)) == world.rows
    left = 1 << 30
    with pytest.raises(UserError, match="asked 3 times, these bytes are damaged"):
        replayed(world)


def test_threads_ask_one_broker(world: World) -> None:
    """Stretches that are read beside each other: each has its own answer."""
    cluster = Cluster(world.broker.bootstrap, client_id="many")
    try:
        places = [
            (TopicPartition("flights", partition), offset) for partition in (0, 1) for offset in (0, 1_210)
        ]
        expected = {place: bytes(cluster.fetch(*place).records) for place in places}
        assert len(set(expected.values())) == 4
        with ThreadPoolExecutor(4) as threads:
            asked = places * 10
            for place, found in zip(
                asked, threads.map(lambda each: cluster.fetch(*each), asked), strict=True
            ):
                assert found.records == expected[place]
    finally:
        cluster.close()


def test_an_object_that_is_damaged(world: World, tmp_path: Path) -> None:
    """A copy of the bucket, with one bit of a segment changed."""
    import shutil

    copied = tmp_path / "objects"
    shutil.copytree(world.broker.objects, copied)
    segment = max(copied.glob("*/*/*/1/*.seg"), key=lambda path: path.name[:20] == "0" * 20)
    data = bytearray(segment.read_bytes())
    data[5_000] ^= 4
    segment.write_bytes(data)
    with pytest.raises(UserError, match="bytes from 0 fail their checksum"):
        tierlog.replay.open("flights", bucket=f"dir://{copied}").read_all()


def _iso(time_ms: int) -> str:
    return str(pa.scalar(time_ms, pa.timestamp("ms", tz="UTC")).as_py().isoformat())
