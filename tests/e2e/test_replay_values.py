"""``tierlog replay --value-format`` as a person runs it: sinks with decoded columns, dead letters, resuming, mistakes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from click.testing import Result
from pyiceberg.catalog import load_catalog
from typer.testing import CliRunner

from tests.e2e.test_replay_kills import KILLS, SEGMENTS, killed_runs
from tests.replay_forks import Forks
from tests.servers.schema_registry import schema_registry
from tests.unit.replay.values_made import TOPIC, Sent, avro, bucket_of
from tierlog.cli.app import app
from tierlog.errors import UserError


def tierlog(url: str, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["replay", TOPIC, "--bucket", url, *map(str, arguments)])


def lines(*values: Any) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


def dead_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def dead_tables(root: Path) -> list[dict[str, Any]]:
    tables = [parquet.ParquetFile(path).read() for path in sorted(root.rglob("*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


def test_json_into_parquet_resumed_with_the_same_columns(tmp_path: Path) -> None:
    """The second segment alone would tell other columns: those of the first run count."""
    first = [*lines({"carrier": "AF", "delay": 1.5}, {"carrier": "LH", "plane": {"seats": 3}}), b"\xff{"]
    second = lines({"carrier": "BA", "delay": 7}, {"delay": "late"}, {"delay": 2})
    url = bucket_of(tmp_path / "bucket", first, second).url
    out, dead = tmp_path / "out", tmp_path / "dead"
    replay = (
        "--value-format",
        "json",
        "--sink",
        f"parquet:{out}",
        "--file-bytes",
        "1B",
        "--dead-letters",
        dead,
    )
    done = tierlog(url, *replay)
    assert done.exit_code == 0, done.exception
    assert (
        f"2 records whose value cannot be decoded are in {dead}; the first: flights-0 offset 2:"
        in done.stderr
    )
    kind = pa.struct(
        {"carrier": pa.string(), "delay": pa.float64(), "plane": pa.struct({"seats": pa.int64()})}
    )
    files = sorted(out.rglob("*.parquet"))
    assert [path.name for path in files] == [f"{0:020}-{3:020}.parquet", f"{3:020}-{6:020}.parquet"]
    whole = [parquet.ParquetFile(path).read() for path in files]
    assert {table.schema.field("value").type for table in whole} == {kind}
    assert whole[1]["value"].to_pylist() == [
        {"carrier": "BA", "delay": 7.0, "plane": None},
        {"carrier": None, "delay": 2.0, "plane": None},
    ]
    row = dead_of(dead)[0]
    assert (row["offset"], row["key_base64"]) == (2, base64.b64encode(b"k2").decode())
    assert base64.b64decode(row["value_base64"]) == b"\xff{"

    files[1].unlink()
    dead.write_bytes(dead.read_bytes().splitlines(keepends=True)[0] + b'{"half": ')
    resumed = (*replay, "--resume", out / ".replay.json")
    done = tierlog(url, *resumed)
    assert done.exit_code == 0, done.exception
    assert parquet.ParquetFile(files[1]).read().equals(whole[1])
    assert [row["offset"] for row in dead_of(dead)] == [2, 4]
    with pytest.raises(UserError, match=r"is of --value-format json; resume with the same"):
        raise tierlog(url, "--sink", f"parquet:{out}", "--resume", out / ".replay.json").exception  # type: ignore[misc]


def test_a_range_in_which_nothing_can_be_decoded(tmp_path: Path) -> None:
    url = bucket_of(tmp_path / "bucket", [b"x", None]).url
    replay = (
        "--value-format",
        "json",
        "--sink",
        f"jsonl:{tmp_path / 'lines'}",
        "--resume",
        tmp_path / "state",
    )
    done = tierlog(url, *replay, "--columns", "offset,value")
    assert done.exit_code == 0, done.exception
    assert json.loads((tmp_path / "lines").read_text()) == {"offset": 1, "value": None}
    again = tierlog(url, *replay, "--columns", "offset,value")
    assert "the earlier run found nothing to decode; begin anew" in str(again.exception)


def test_avro_as_lines_and_where_before_decoding(tmp_path: Path) -> None:
    schema = {
        "type": "record",
        "name": "Flight",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "raw", "type": "bytes"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {
                "name": "price",
                "type": {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 1},
            },
        ],
    }
    with schema_registry() as registry:
        registry.user = "me:secret"
        number = registry.register(f"{TOPIC}-value", schema)
        values = [
            avro(number, schema, {"id": each, "raw": b"\xfe", "at": 0, "price": Decimal("1.5")})
            for each in range(3)
        ]
        url = bucket_of(tmp_path / "bucket", values[:2], [b"other", values[2]]).url
        replay = ("--value-format", "avro", "--columns", "key,value", "--sink", "jsonl", "--progress", "json")
        where = registry.url.replace("//", "//me:secret@")
        done = tierlog(url, *replay, "--registry", where, "--where", "key != 'k1'")
        assert done.exit_code == 0, done.exception
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert found == [
            {
                "key": f"k{offset}",
                "value": {
                    "id": each,
                    "raw_base64": "/g==",
                    "at": "1970-01-01T00:00:00.000+00:00",
                    "price": "1.5",
                },
            }
            for offset, each in ((0, 0), (3, 2))
        ]
        assert "are kept with --dead-letters WHERE" in done.stderr
        assert "secret" not in done.stderr
        told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        assert told[-1]["dead_letters"] == 1
        with pytest.raises(UserError, match=r"access refused \(401\)"):
            raise tierlog(url, *replay, "--registry", registry.url).exception  # type: ignore[misc]


def test_an_iceberg_table_with_decoded_columns(tmp_path: Path) -> None:
    """A process of its own, for pyiceberg looks at the environment once."""
    told = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/house"}
    row: dict[str, Any] = {"id": 1, "at": "2026-05-01T00:00:00Z", "tags": ["a"], "in": {"x": 1}}
    url = bucket_of(tmp_path / "bucket", lines(row)).url
    schema = "id:uint64,at:timestamp[s],tags:string,in:string,small:int8"
    replay = ("replay", TOPIC, "--bucket", url, "--sink", "iceberg:values.n.t")
    done = subprocess.run(
        [sys.executable, "-m", "tierlog", *replay, "--value-format", "json", "--value-schema", schema],
        env=os.environ
        | {f"PYICEBERG_CATALOG__VALUES__{name.upper()}": value for name, value in told.items()},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    catalog = load_catalog("values", **told)
    (row,) = catalog.load_table("n.t").scan().to_arrow().to_pylist()
    catalog.close()
    assert row["value"]["at"].isoformat() == "2026-05-01T00:00:00+00:00"
    del row["value"]["at"]
    assert row["value"] == {"id": 1, "tags": '["a"]', "in": '{"x": 1}', "small": None}


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as served:
        yield served


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_killed_replays_have_each_record_and_each_dead_letter_once(
    forks: Forks, tmp_path: Path, kind: str
) -> None:
    """The first segment tells the columns; every seventh record is a dead letter."""
    count = 500 * SEGMENTS
    values = [b"bad" if offset % 7 == 6 else lines({"id": offset})[0] for offset in range(count)]
    values[0] = lines({"id": 0, "first": 1})[0]
    segments = [values[start : start + 500] for start in range(0, count, 500)]
    url = bucket_of(tmp_path / "bucket", *segments).url
    target, dead, state = tmp_path / "out", tmp_path / "dead", tmp_path / "state"
    arguments = ["replay", TOPIC, "--bucket", url, "--sink", f"parquet:{target}", "--file-bytes", "5KB"]
    arguments += ["--value-format", "json", "--dead-letters", f"{kind}:{dead}", "--resume", str(state)]
    killed_runs(forks, arguments, KILLS // 2, lambda: len(list(target.rglob("*.parquet"))))
    tables = [parquet.ParquetFile(path).read() for path in sorted(target.rglob("*.parquet"))]
    assert len(tables) > 5
    whole = pa.concat_tables(tables)
    good = [offset for offset in range(count) if offset % 7 != 6]
    assert whole["offset"].to_pylist() == good
    assert [value["id"] for value in whole["value"].to_pylist()] == good
    assert whole["value"].type == pa.struct({"id": pa.int64(), "first": pa.int64()})
    told = dead_of(dead) if kind == "jsonl" else dead_tables(dead)
    assert sorted(row["offset"] for row in told) == list(range(6, count, 7))
    assert not list(dead.rglob(".writing*"))


def test_dead_letters_in_parquet(tmp_path: Path) -> None:
    """A file for each of the sink's; those of records that the sink lacks come again, and are there once."""
    values = [b"bad" if offset % 7 == 6 else lines({"id": offset})[0] for offset in range(600)]
    sent = [Sent(value, [("h", b"1")]) for value in values]
    url = bucket_of(tmp_path / "bucket", *(sent[start : start + 100] for start in range(0, 600, 100))).url
    target, dead, resume = tmp_path / "out", tmp_path / "dead", ("--resume", tmp_path / "state")
    replay = ("--value-format", "json", "--sink", f"parquet:{target}", "--dead-letters", f"parquet:{dead}")
    done = tierlog(url, *replay, *resume, "--file-bytes", "1B")
    assert done.exit_code == 0, done.exception
    first = dead_tables(dead)
    assert [row["offset"] for row in first] == list(range(6, 600, 7))
    assert (first[0]["value"], first[0]["headers"]) == (b"bad", [{"key": "h", "value": b"1"}])
    assert first[0]["error"].startswith("no JSON")
    assert len(list(dead.rglob("*.parquet"))) == len(list(target.rglob("*.parquet"))) == 6

    (target / f"{TOPIC}/0/{100:020}-{200:020}.parquet").unlink()
    one, other = sorted(dead.rglob("*.parquet"))[:2]
    both = pa.concat_tables([parquet.ParquetFile(path).read() for path in (one, other)])
    parquet.write_table(both, one)
    other.unlink()
    assert tierlog(url, *replay, *resume).exit_code == 0
    assert sorted(dead_tables(dead), key=lambda row: row["offset"]) == first
    with pytest.raises(UserError, match=r"dead is not empty: it holds flights/0/"):
        raise tierlog(url, *replay).exception  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--value-format", "avro"], "name the schema registry with --registry http://HOST:PORT"),
        (["--value-format", "json", "--value-schema", "x:y"], "expected NAME:TYPE"),
        (["--value-format", "json", "--columns", "key"], "the column value is not chosen"),
        (["--value-format", "json", "--sink", "topic:x"], "a topic takes values as they are; leave one out"),
        (
            ["--value-format", "json", "--dead-letters", "{there}"],
            "{there} is there already; name another file",
        ),
        (
            ["--value-format", "avro", "--registry", "http://127.0.0.1:1"],
            "the schema registry http://127.0.0.1:1: ",
        ),
        (["--dead-letters", "x"], "--dead-letters: choose --value-format as well"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    url = bucket_of(tmp_path / "bucket", lines({"a": 1})).url
    done = tierlog(url, *(each.format(there=there) for each in arguments))
    assert isinstance(done.exception, UserError), done.exception
    assert told.format(there=there) in str(done.exception)
    assert "\n" not in str(done.exception)
