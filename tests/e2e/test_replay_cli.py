"""``tierlog replay`` as a person runs it: sinks, the file to resume from, mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from typer.testing import CliRunner

from tests.e2e.tiered import consumer, create, get, hurried, produce, read, until
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


def test_dead_letters_into_a_topic(broker: BrokerProcess, tmp_path: Path) -> None:
    """As they were, with origin and error; after a kill, those come that are not there."""
    create(broker, "dead", partitions=3)
    sink = ("--sink", f"parquet:{tmp_path / 'out'}", "--value-format", "json", "--value-schema", "x:int64")
    replay = ("replay", "flights", "-b", broker.bootstrap, *sink, "--dead-letters", "topic:dead")
    replay = (*replay, "--resume", tmp_path / "r.json")
    done = tierlog(*replay)
    assert done.returncode == 0, done.stderr
    assert "200 records whose value cannot be decoded are in topic:dead" in done.stderr
    rows = read(broker, "flights", 200, {0: 0, 1: 0})
    found = consumed(broker, "dead", 3, 200)
    assert sorted((value, headers["tierlog.replay.offset"]) for _, _, value, headers in found) == sorted(
        (row.value, b"%d" % row.offset) for row in rows
    )
    assert all(headers["tierlog.replay.error"].startswith(b"no JSON") for *_, headers in found)

    next((tmp_path / "out" / "flights" / "0").glob("*.parquet")).unlink()
    again = tierlog(*replay)
    assert again.returncode == 0, again.stderr
    assert "100 records whose value cannot be decoded are in topic:dead" in again.stderr
    ends = consumer(broker)
    held = [ends.get_watermark_offsets(TopicPartition("dead", number))[1] for number in range(3)]
    ends.close()
    assert sum(held) == 200, "none is there twice"
    bare = ("replay", "flights", "-b", broker.bootstrap, "--sink", "null", *sink[2:])
    refused = tierlog(*bare, "--dead-letters", "topic:flights")
    assert "topic:flights: it is replayed itself; name another topic" in refused.stderr


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
        (["--sink", f"jsonl:{__file__}"], "is there already; go on with --resume FILE, or name another file"),
        (["--parallel", "99"], "--parallel 99: expected 1 to 32"),
        (["--unordered", "--sink", "jsonl:x"], "the file to resume from says one offset of a partition"),
        (["--unordered", "--speed", "2x"], "the records' time is an order; leave one of them out"),
        (["--commit-group", "g"], "name one with --bootstrap-server"),
        (
            ["--sink", "jsonl:/proc/nowhere/x"],
            "/proc/nowhere/x: No such file or directory; go on with --resume",
        ),
    ],
)
def test_a_mistake_is_one_line(bucket: BucketMaker, arguments: list[str], told: str) -> None:
    refused(told, "flights", "--bucket", bucket.url, *arguments)


def test_a_full_disk(bucket: BucketMaker) -> None:
    done = tierlog(
        "replay", "flights", "--bucket", bucket.url, "--sink", "jsonl:/dev/full", "--progress", "json"
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert line == (
        "tierlog: /dev/full: No space left on device; make room, then go on with --resume, what was written stays"
    )


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """With 200 records in two partitions of ``flights``."""
    with hurried(tmp_path_factory.mktemp("broker"), tierlog_ledger_enable="true") as running:
        create(running, "flights", partitions=2)
        produce(running, "flights", 200, partitions=2, codec="lz4", value_bytes=100)
        yield running


def test_into_another_topic(broker: BrokerProcess, tmp_path: Path) -> None:
    """The origin is named, keys choose partitions as in Kafka's clients."""
    create(broker, "again", partitions=3)
    rows = read(broker, "flights", 200, {0: 0, 1: 0})
    sink = ("--sink", "topic:again", "--resume", tmp_path / "r.json")
    replay = ("replay", "flights", "-b", broker.bootstrap, *sink)
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


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["flight"], "no topic flight; did you mean flights"),
        (["flights", "--sink", "topic:nowhere"], "nowhere"),
        (["flights", "--sink", "topic:flights"], "flights cannot be replayed into itself"),
        (
            ["flights", "--unordered", "--sink", "topic:other"],
            "the records of a key keep their order in a topic; leave --unordered out",
        ),
        (
            ["flights", "--commit-group", "g", "--sink", "null"],
            "--commit-group and --sink null: it keeps no records",
        ),
    ],
)
def test_a_mistake_with_brokers(broker: BrokerProcess, arguments: list[str], told: str) -> None:
    if "topic:other" in arguments:
        create(broker, "other")
    refused(told, *arguments, "-b", broker.bootstrap)


def test_a_group_goes_on_where_the_replay_ended(broker: BrokerProcess, tmp_path: Path) -> None:
    """As it was told; a group with a member is not touched, and its client id is known to the broker's ledger."""
    target = f"parquet:{tmp_path}/out"
    replay = ("flights", "-b", broker.bootstrap, "--to", "60", "--sink", target, "--commit-group", "nightly")
    names = ("--client-id", "nightly-replay", "--unordered")
    with closing(consumer(broker, group_id="nightly")) as member:
        member.subscribe(["flights"])
        until(lambda: member.poll(0.1) is None and member.assignment())
        refused("--commit-group nightly: the group has members", *replay)
    done = tierlog("replay", *replay, *names)
    assert done.returncode == 0, done.stderr
    assert parquet.read_table(tmp_path / "out").num_rows == 120
    with closing(consumer(broker, group_id="nightly")) as member:
        member.subscribe(["flights"])
        found: list[tuple[int | None, int | None]] = []
        until(lambda: found.extend(place(each) for each in member.consume(100, 0.2)) or len(found) >= 80)
    assert sorted(found) == [(partition, offset) for partition in (0, 1) for offset in range(60, 100)]
    (piece,) = get(broker, "/v1/ledger")["pieces"][-1:]
    columns = get(broker, "/v1/ledger")["columns"]
    told = [dict(zip(columns, row, strict=True)) for row in piece["rows"]]
    (traffic,) = (row for row in told if row["client_id"] == "nightly-replay")
    assert (traffic["kind"], traffic["direction"]) == ("traffic", "consume")


def place(message: Message) -> tuple[int | None, int | None]:
    assert message.error() is None, message.error()
    return message.partition(), message.offset()


def refused(told: str, *arguments: object) -> None:
    """In this process: one line."""
    done = CliRunner().invoke(app, ["replay", *map(str, arguments)])
    assert isinstance(done.exception, UserError), done.output
    assert told in str(done.exception)
    assert "\n" not in str(done.exception)


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
