"""Replays whose bucket or disk fails in the middle: one line, and what was written is gone on from."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner

from tests.replay_bucket import BucketMaker, Shape
from tests.servers.fault_proxy import FaultProxy, Mode
from tests.servers.moto import moto
from tests.servers.processes import S3Server, minio_client
from tierlog.cli.app import app
from tierlog.errors import UserError
from tierlog.replay.bounds import EARLIEST, END
from tierlog.replay.ledger import Caller
from tierlog.replay.resolve import Request
from tierlog.replay.running.job import Job, Progress
from tierlog.replay.running.run import run

RECORDS, SEGMENTS = 500, 40


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> BucketMaker:
    made = BucketMaker(tmp_path_factory.mktemp("bucket"))
    made.fill("flights", 0, SEGMENTS, RECORDS, Shape(100, 40))
    return made


@pytest.fixture
def on_s3(bucket: BucketMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The same objects."""
    with moto(tmp_path / "moto") as server:
        client = minio_client(server)
        for path in bucket.root.rglob("*"):
            if path.is_file():
                client.fput_object(server.bucket, path.relative_to(bucket.root).as_posix(), str(path))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_access_key)
        yield server


def offsets(target: Path) -> list[int]:
    files = sorted(target.rglob("*.parquet"))
    return [n for path in files for n in parquet.ParquetFile(path).read()["offset"].to_pylist()]


def test_a_bucket_that_goes_away(on_s3: S3Server, tmp_path: Path) -> None:
    """After some answers came damaged; it comes back with leave to read only."""
    with FaultProxy(on_s3.endpoint) as proxy:
        url = f"s3://{on_s3.bucket}?endpoint={proxy.endpoint}&retry.attempts=2"
        request, target = Request(("flights",), EARLIEST, END), tmp_path / "out"
        job = Job(request, None, url, f"parquet:{target}", file_bytes=10_000, parallel=2)
        job = job._replace(resume=tmp_path / "state.json")
        proxy.fail(Mode.CORRUPT, "GET", path=".seg", limit=2)

        def tell(progress: Progress) -> None:
            if progress.records >= 3 * RECORDS:
                proxy.fail(Mode.REFUSE)

        with pytest.raises(UserError) as told:
            asyncio.run(run(job, lambda plan: True, tell))
        assert str(told.value).endswith("; what was written stays: go on once the bucket answers")
        assert "\n" not in str(told.value)
        written = offsets(target)
        assert written == list(range(len(written))) and 0 < len(written) < RECORDS * SEGMENTS
        proxy.fail(Mode.FORBIDDEN, "PUT")
        lines: list[str] = []
        job = job._replace(caller=Caller(tell=lines.append))
        done = asyncio.run(run(job, lambda plan: True, lambda progress: None))
        (line,) = lines
        assert line.startswith("the requests of this replay are not in the ledger: ") and "\n" not in line
        assert done is not None and done.records == RECORDS * SEGMENTS - len(written)
        assert offsets(target) == list(range(RECORDS * SEGMENTS))


@pytest.mark.parametrize("sink", ["parquet", "jsonl"])
def test_a_disk_that_takes_no_more(bucket: BucketMaker, tmp_path: Path, sink: str) -> None:
    """As one that is full: files may have 100 kB."""
    target, state = tmp_path / "out", tmp_path / "state.json"
    command = [sys.executable, "-m", "tierlog", "replay", "flights", "--bucket", bucket.url, "--no-ledger"]
    command += ["--sink", f"{sink}:{target}", "--resume", str(state), "--columns", "offset,value"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    done = subprocess.run(
        [*command, "--progress", "json"], preexec_fn=limit, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith(f"tierlog: {target}") and "File too large; make room, then go on with" in line
    again = CliRunner().invoke(app, command[3:])
    assert again.exit_code == 0, again.output
    if sink == "parquet":
        assert offsets(target) == list(range(RECORDS * SEGMENTS))
    else:
        assert len(target.read_text().splitlines()) == RECORDS * SEGMENTS
