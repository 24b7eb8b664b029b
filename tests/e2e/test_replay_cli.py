"""``tierlog replay`` as a person runs it: sinks, the file to resume from, mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from confluent_kafka import Consumer, TopicPartition
from typer.testing import CliRunner

from tests.e2e.tiered import create, hurried, produce, until
from tests.replay_bucket import BucketMaker, Shape
from tests.servers.tierlog import BrokerProcess
from tierlog.cli.app import app
from tierlog.errors import UserError
from tierlog.records.batch import Compression
from tierlog.replay.sinks.topic import murmur2


def tierlog(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tierlog", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> BucketMaker:
    made = BucketMaker(tmp_path_factory.mktemp("bucket"))
    made.fill("flights", 0, 3, 500, Shape(100, 40, Compression.ZSTD, header_count=1))
    made.fill("flights", 1, 2, 500, Shape(100, 40))
    return made


def test_a_plan_as_json(bucket: BucketMaker) -> None:
    done = tierlog(
        "replay", "flights", "--bucket", bucket.url, "--from", "100", "--dry-run", "--format", "json"
    )
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["offsets"], plan["local_bytes"], plan["price_usd"]) == (2_300, 0, None)
    first = plan["partitions"][0]
    assert (first["start_offset"], first["end_offset"], first["segments"]) == (100, 1_500, 3)


def test_lines_of_one_key(bucket: BucketMaker) -> None:
    done = tierlog(
        *("replay", "flights", "--bucket", bucket.url, "--where", "key = 'key-7' and partition = 1"),
        *("--columns", "key,offset,timestamp", "--progress", "json"),
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"key": "key-7", "offset": 7, "timestamp": "2023-11-14T22:13:20.021+00:00"}
    ]
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert told[-1]["done_bytes"] == told[-1]["total_bytes"]
    assert (told[-1]["records"], told[-1]["written"], told[-1]["seconds_left"]) == (2_500, 1, 0.0)


def test_parquet_resumed_and_what_is_refused(bucket: BucketMaker, tmp_path: Path) -> None:
    out = tmp_path / "out"
    replay = ("replay", "flights", "--bucket", bucket.url, "--sink", f"parquet:{out}")
    assert tierlog(*replay).returncode == 0
    files = sorted(out.rglob("*.parquet"))
    assert [path.relative_to(out).as_posix() for path in files] == [
        f"flights/0/{0:020}-{1_500:020}.parquet",
        f"flights/1/{0:020}-{1_000:020}.parquet",
    ]
    assert [parquet.read_metadata(path).num_rows for path in files] == [1_500, 1_000]
    assert parquet.ParquetFile(files[0]).schema_arrow.field("headers").type.value_type.num_fields == 2
    again = tierlog(*replay)
    assert again.returncode == 1
    assert "holds a replay already; go on with --resume FILE" in again.stderr
    files[1].unlink()
    assert tierlog(*replay, "--resume", out / ".replay.json").returncode == 0
    assert parquet.read_metadata(files[1]).num_rows == 1_000
    other = tierlog(*replay, "--columns", "key", "--resume", out / ".replay.json")
    assert "resume with the same, or begin anew" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--sink", "csv:x"], "--sink csv:x: expected parquet:DIR"),
        (["--sink", "topic:other"], "name one with --bootstrap-server"),
        (["--columns", "price"], "there is no column price"),
        (["--partitions", "9"], "flights has no partition 9"),
        (["--partitions", "x"], "expected numbers and ranges, such as 0,2-4"),
        (["--rate", "fast"], "expected a number of bytes, such as 200MB"),
        (["--speed", "0x"], "expected how many times faster"),
        (["--where", "key ~ 3"], "--where: not understood at '~ 3'"),
        (["--from", "5", "--to", "3"], "--from 5 is behind --to 3"),
        (
            ["--sink", "jsonl:/proc/nowhere/x"],
            "/proc/nowhere/x: No such file or directory; go on with --resume",
        ),
    ],
)
def test_a_mistake_is_one_line(bucket: BucketMaker, arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["replay", "flights", "--bucket", bucket.url, *arguments])
    assert isinstance(done.exception, UserError)
    assert told in str(done.exception)
    assert "\n" not in str(done.exception)


def test_a_full_disk(bucket: BucketMaker) -> None:
    done = tierlog(
        "replay", "flights", "--bucket", bucket.url, "--sink", "jsonl:/dev/full", "--progress", "json"
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert line == (
        "tierlog: /dev/full: No space left on device; make room, then go on with --resume, what was written stays"
    )


def test_into_another_topic_and_the_rate(tmp_path: Path) -> None:
    """From a broker; the origin is named, keys choose partitions as in Kafka's clients."""
    with hurried(tmp_path / "broker") as broker:
        create(broker, "flights", partitions=2)
        create(broker, "again", partitions=3)
        rows = produce(broker, "flights", 200, partitions=2, codec="lz4", value_bytes=100)
        replay = (
            "replay",
            "flights",
            "-b",
            broker.bootstrap,
            "--sink",
            "topic:again",
            "--resume",
            tmp_path / "r.json",
        )
        done = tierlog(*replay)
        assert done.returncode == 0, done.stderr
        assert tierlog(*replay).returncode == 0  # which has nothing left to do
        found = consumed(broker, "again", 3, 200)
        assert sorted((value, headers["tierlog.replay.offset"]) for _, _, value, headers in found) == sorted(
            (row.value, b"%d" % row.offset) for row in rows
        )
        for partition, key, _, headers in found:
            assert headers["tierlog.replay.topic"] == b"flights"
            assert partition == (murmur2(key) & 0x7FFFFFFF) % 3
        itself = tierlog("replay", "flights", "-b", broker.bootstrap, "--sink", "topic:flights")
        assert "flights cannot be replayed into itself" in itself.stderr


def consumed(
    broker: BrokerProcess, topic: str, partitions: int, count: int
) -> list[tuple[int, bytes, bytes, dict[str, bytes]]]:
    reader = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": "g", "auto.offset.reset": "earliest"}
    )
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    found = []

    def is_complete() -> bool:
        for message in reader.consume(500, 0.5):
            assert message.error() is None
            headers = {name: bytes(value) for name, value in message.headers() or ()}  # type: ignore[union-attr,misc]
            found.append((message.partition(), bytes(message.key()), bytes(message.value()), headers))  # type: ignore[arg-type]
        return len(found) >= count

    until(is_complete)
    reader.close()
    assert len(found) == count
    return found  # type: ignore[return-value]


def test_murmur2_as_in_java() -> None:
    """Values of Kafka's own test of it."""
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    for key, number in known.items():
        assert pa.scalar(murmur2(key), pa.uint32()).as_py() == number & 0xFFFFFFFF
