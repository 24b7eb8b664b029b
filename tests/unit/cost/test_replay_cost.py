"""``cost replay`` by the segments of a bucket: their sizes and classes, and by the ledger's means where there is none."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.replay_bucket import FIRST_MS, BucketMaker, Shape, batches
from tests.unit.cost.rows import small_cluster, write_json_lines
from tiering.cost.prices import GB
from tiering.cost.shipped import shipped
from tiering.objects.classes import StorageClass
from tierlog.admin.cost.spans import iso
from tierlog.cli.app import app
from tierlog.errors import UserError

RECORDS = 2_000
SHAPE = Shape(value_bytes=500, ms_apart=1000)
GET_BYTES = 100_000
BOOK = shipped("aws-us-east-1")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> BucketMaker:
    """Three segments, one after the other: the oldest in infrequent, all of other sizes than the mean."""
    made = BucketMaker(tmp_path_factory.mktemp("bucket"))
    for number, storage_class in enumerate(
        (StorageClass.INFREQUENT, StorageClass.STANDARD, StorageClass.STANDARD)
    ):
        shape = SHAPE._replace(value_bytes=SHAPE.value_bytes * (number + 1))
        data = b"".join(batches(RECORDS, shape, first_offset=number * RECORDS))
        made.add("flights", 0, data, storage_class=storage_class)
    made.publish()
    return made


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["cost", "replay", *arguments], env={"TIERLOG_BOOTSTRAP_SERVER": None})


def told(*arguments: str) -> Any:
    answer = run(*arguments, "-o", "json", "--get-bytes", str(GET_BYTES))
    assert answer.exit_code == 0, answer.exception
    return json.loads(answer.stdout)


def test_segments_are_priced_by_their_class_and_size(bucket: BucketMaker) -> None:
    sizes = [path.stat().st_size for path in bucket.segment_paths()]
    price = BOOK.class_of("infrequent")
    answer = told("flights", "--from", "2020-01-01", "--bucket", bucket.url)
    reads = {read["class"]: read for read in answer["reads"]}
    assert (answer["source"], reads.keys()) == ("catalog", {"infrequent", "standard"})
    oldest = reads["infrequent"]
    # Footers are no data.
    assert oldest["bytes"] == pytest.approx(min(sizes), rel=0.01)
    assert answer["bytes"] == pytest.approx(sum(sizes), rel=0.01)
    gets = 1 + -(-oldest["bytes"] // GET_BYTES)
    assert oldest["gets"] == gets
    assert Decimal(oldest["cost"]) == pytest.approx(
        gets * price.request("get") + Decimal(oldest["bytes"]) / GB * price.retrieval_per_gb,
        abs=Decimal("1e-6"),
    )


def test_a_range_reads_only_what_it_holds(bucket: BucketMaker) -> None:
    def at(offset: int) -> str:
        return iso(FIRST_MS + offset * SHAPE.ms_apart)

    late = told("flights", "--from", at(2 * RECORDS + 400), "--bucket", bucket.url)
    (read,) = late["reads"]
    whole = max(path.stat().st_size for path in bucket.segment_paths())
    assert (read["class"], read["bytes"]) == ("standard", pytest.approx(0.8 * whole, rel=0.02))
    middle = told("flights", "--from", at(100), "--to", at(300), "--bucket", bucket.url)
    assert [read["class"] for read in middle["reads"]] == ["infrequent"]


def test_what_cannot_be_asked_is_told_from_means(bucket: BucketMaker, tmp_path: Path) -> None:
    rows = str(write_json_lines(small_cluster(), tmp_path / "rows.jsonl"))
    given = ("--from", "2020-01-01", "--rows", rows, "--since", "2025-01-01")
    assert told("flights", *given)["source"] == "ledger"
    assert told("flights", *given, "--bucket", bucket.url)["source"] == "catalog"
    answer = run("old", *given, "--bucket", bucket.url)
    assert "told from means: " in answer.stderr
    assert "Each day holds as much as is written a day" in answer.stdout
    error = run("nobody", "--from", "2020-01-01", "--bucket", bucket.url).exception
    assert isinstance(error, UserError)
    assert "nobody" in str(error)
