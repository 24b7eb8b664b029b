"""What a bucket tells beside the ledger: the age of the oldest segment, and how far batches are compressed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.replay_bucket import FIRST_MS, BucketMaker, Shape, batches
from tests.unit.cost.rows import small_cluster, write_json_lines
from tierlog.admin.cost.spans import iso
from tierlog.cli.app import app
from tierlog.records.batch import Compression
from tierlog.replay.seen import SAMPLE_BYTES, SAMPLES, opened_batches

PARTITIONS = SAMPLES + 1
PLAIN = Shape(value_bytes=1000)
PACKED = Shape(value_bytes=1000, codec=Compression.ZSTD)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> BucketMaker:
    made = BucketMaker(tmp_path_factory.mktemp("bucket"))
    for partition in range(PARTITIONS):
        made.fill("flights", partition, segments=2, records=1000, shape=PACKED)
    made.raise_start("flights", 0, 1000)
    for partition in range(1, PARTITIONS):
        made.raise_start("flights", partition, 1500)
    made.publish()
    return made


def report(bucket_url: str, tmp_path: Path, *arguments: str) -> Any:
    rows = write_json_lines(small_cluster(2), tmp_path / "rows.jsonl")
    command = ["capacity", "report", "--rows", str(rows), "--since", "2025-01-01", "--bucket", bucket_url]
    return CliRunner().invoke(app, [*command, *arguments], env={"TIERLOG_BOOTSTRAP_SERVER": None})


def test_a_bucket_is_looked_at(bucket: BucketMaker, tmp_path: Path) -> None:
    topics = json.loads(report(bucket.url, tmp_path, "-o", "json").stdout)["topics"]
    flights, old = topics
    # Of the largest timestamp of the first batch of the segment that the log starts in.
    first_batch_ms = FIRST_MS + (1000 + PACKED.batch_records - 1) * PACKED.ms_apart
    assert flights["oldest_remote"] == iso(first_batch_ms)
    assert (flights["oldest_local"], old["oldest_remote"], old["compression_ratio"]) == (None, None, None)
    plain = sum(map(len, batches(1000, PLAIN, first_offset=1000)))
    packed = sum(map(len, batches(1000, PACKED, first_offset=1000)))
    assert flights["compression_ratio"] == pytest.approx(plain / packed, rel=0.02)
    assert 0.5 * SAMPLES * SAMPLE_BYTES < flights["sampled_bytes"] <= SAMPLES * SAMPLE_BYTES
    report(bucket.url, tmp_path, "-o", "html", "--out", str(tmp_path / "page.html"))
    assert flights["oldest_remote"] in (tmp_path / "page.html").read_text()
    shown = report(bucket.url, tmp_path).stdout
    assert "OLDEST REMOTE" in shown
    assert f"{flights['compression_ratio']:.2f} : 1" in shown


def test_a_bucket_that_cannot_be_read_is_named_and_the_rest_told(tmp_path: Path) -> None:
    answer = report(f"dir://{tmp_path / 'none'}", tmp_path, "-o", "json")
    assert "times and compression of topics are left out" in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert json.loads(answer.stdout)["topics"][0]["remote_bytes"]


@pytest.mark.parametrize("codec", Compression)
def test_opened_batches(codec: Compression) -> None:
    shape = Shape(value_bytes=200, codec=codec)
    data = b"".join(batches(300, shape))
    plain = sum(map(len, batches(300, shape._replace(codec=Compression.NONE))))
    assert opened_batches(data) == (len(data), plain)
    # The last batch of a sample is cut off as a rule; a damaged one ends it.
    whole = opened_batches(data[:-1])
    assert 0 < whole.bytes < len(data)
    assert opened_batches(data[: whole.bytes]) == whole
    broken = bytearray(data)
    broken[whole.bytes - 1] ^= 1
    assert opened_batches(broken).bytes < whole.bytes
    assert opened_batches(b"no batch" * 20) == (0, 0)
