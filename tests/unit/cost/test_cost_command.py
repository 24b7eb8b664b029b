"""``tierlog cost`` on files of rows, as users run it; bad input ends with one line."""

from __future__ import annotations

import csv
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.unit.cost.rows import small_cluster, write_json_lines
from tierlog.cli.app import app
from tierlog.errors import UserError

OWN = """name = "cellar"\nprovider = "own"\nregion = "here"\ncurrency = "EUR"\nas_of = 2026-05-01\nsource = "x"
[classes.standard]\nstorage_per_gb_month = 0.01\n[disk]\nper_gb_month = 0.1\n"""


class Ran:
    def __init__(self, *arguments: str) -> None:
        result = CliRunner().invoke(app, ["cost", *arguments], env={"TIERLOG_BOOTSTRAP_SERVER": None})
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr
        self.error = result.exception

    @property
    def json(self) -> Any:
        assert self.code in (0, 3), self.error
        return json.loads(self.out)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_json_lines(small_cluster(), tmp_path_factory.mktemp("rows") / "ledger.jsonl")


def report(rows: Path, *arguments: str) -> Ran:
    return Ran("report", "--rows", str(rows), "--since", "2025-01-01", *arguments)


def test_a_report_for_programs(rows: Path) -> None:
    told = report(rows, "-o", "json").json
    assert (told["hours"], told["by"], told["book"]["as_of"]) == (48, "topic", "2026-05-01")
    cost = Decimal(told["total"]["cost"])
    assert abs(sum(Decimal(row["cost"]) for row in told["items"]) - cost) < Decimal("0.0001")
    assert abs(sum(Decimal(row["cost"]) for row in told["parts"]) - cost) < Decimal("0.0001")
    assert Decimal(told["total"]["per_month"]) == pytest.approx(cost * 744 / 48, abs=Decimal("0.0001"))
    assert [row["topic"] for row in told["idle_topics"]] == ["old"]
    assert Decimal(told["without_tier"]["cost"]) > cost
    assert sum(row["requests"] for row in told["requests"]) == 48 * 496


def test_a_report_for_people_says_what_it_rests_on(rows: Path) -> None:
    ran = report(rows, "--by", "owner")
    for words in ("as of 2026-05-01", "with no tier", "(no owner)", "Free space of the disks is shared",
                  "moved between peers of unknown zone", "idle old", "48 of"):  # fmt: skip
        assert words in ran.out, words
    assert "days old: get new ones" in ran.err


def test_groups_need_a_cluster(rows: Path) -> None:
    shown = report(rows, "--by", "group").out
    assert "(unknown group)" in shown
    assert "No group is known: no cluster was asked (-b)." in shown


def test_a_budget_for_cron(rows: Path) -> None:
    assert report(rows, "--budget", "1").code == 3
    assert report(rows, "--budget", "100000").code == 0


def test_charges_as_csv_and_parquet(rows: Path, tmp_path: Path) -> None:
    total = Decimal(report(rows, "-o", "json").json["total"]["cost"])
    written = report(rows, "-o", "csv").out
    lines = list(csv.DictReader(written.splitlines()))
    assert abs(sum(Decimal(line["cost"]) for line in lines) - total) < Decimal("0.0001")
    assert {line["topic"] for line in lines} == {"flights", "old", ""}
    assert report(rows, "-o", "parquet", "--out", str(tmp_path / "c.parquet")).code == 0
    table = pq.read_table(tmp_path / "c.parquet")
    assert pa.types.is_decimal(table.schema.field("cost").type)
    assert table.num_rows == len(lines)
    assert isinstance(report(rows, "-o", "parquet").error, UserError)


def test_a_page_that_needs_nothing_else(rows: Path, tmp_path: Path) -> None:
    assert report(rows, "-o", "html", "--out", str(tmp_path / "c.html")).code == 0
    page = (tmp_path / "c.html").read_text()
    for drawing in re.findall(r"<svg.*?</svg>", page):
        ElementTree.fromstring(drawing)
    assert page.count("<svg") == 3
    assert not re.search(r"<script|<link|src=|url\(|@import", page)
    assert "as of 2026-05-01" in page


def test_parquet_rows_are_the_same(rows: Path, tmp_path: Path) -> None:
    table = pa.Table.from_pylist(
        [{**row._asdict(), "kind": str(row.kind), "later": 1} for row in small_cluster()]
    )
    pq.write_table(table, tmp_path / "ledger.parquet")
    assert report(tmp_path / "ledger.parquet", "-o", "json").json == report(rows, "-o", "json").json


def test_pieces_of_an_hour_are_added_up(tmp_path: Path) -> None:
    whole = small_cluster(1)
    halves = [row._replace(requests=row.requests // 2, byte_hours=row.byte_hours / 2) for row in whole]
    both = write_json_lines(
        [row._replace(sent_bytes=0, received_bytes=0) for row in halves] + halves, tmp_path / "b"
    )
    one = write_json_lines(whole, tmp_path / "a")
    assert report(both, "-o", "json").json["items"] == report(one, "-o", "json").json["items"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--since", "yesterday"], "--since yesterday: expected a time, as 2026-11-01"),
        (["--since", "1h", "--until", "2d"], "--since 1h is not before --until 2d"),
        (["--since", "1d"], "the ledger has no row from 1d until now; name an earlier --since"),
        (["--price-book", "aws-mars-1"], "there is no price book aws-mars-1; name a file that ends in .toml"),
        (["--price-book", "none.toml"], "none.toml: cannot be read: No such file or directory"),
        (["--budget", "1e999"], "--budget 1e999: expected an amount"),
        (["--until", "999999y"], "is not before --until 999999y"),
        (["--budget", "much"], "--budget much: expected an amount, as 100 or 99.50"),
        (["--owners", "none.toml"], "none.toml: cannot be read"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(rows: Path, arguments: list[str], line: str) -> None:
    ran = report(rows, *arguments)
    assert isinstance(ran.error, UserError)
    assert line in str(ran.error)
    assert "\n" not in str(ran.error)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", r"bad:1: this is no row of the ledger: .*; see docs/ledger.md"),
        ("[]", r"bad:1: this is no row of the ledger: no object"),
        ('\n{"kind": "stored"}', r"bad:2: .*hour_ms or broker_id is missing"),
        (
            '{"kind": "stored", "hour_ms": 0, "broker_id": 1, "objects": -1}',
            r"objects is not from 0 to 2\^63",
        ),
        ('{"kind": "stored", "hour_ms": 0, "broker_id": 1, "byte_hours": NaN}', r"byte_hours is not from 0"),
        ('{"kind": "stored", "hour_ms": 0, "broker_id": 1, "objects": 1e400}', r"bad:1: this is no row"),
        ('{"kind": "stored", "hour_ms": "x", "broker_id": 1}', r"bad:1: this is no row"),
    ],
)
def test_bad_rows_are_one_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "bad").write_text(text)
    error = report(tmp_path / "bad").error
    assert isinstance(error, UserError)
    assert re.search(line, str(error)), str(error)
    (tmp_path / "bad.parquet").write_text(text)
    assert "cannot be read as Parquet" in str(report(tmp_path / "bad.parquet").error)
    assert "cannot be read" in str(report(tmp_path / "none").error)


def test_rows_of_later_kinds_are_left_out(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "more").write_text(rows.read_text() + '{"kind": "heat", "hour_ms": 1, "broker_id": 1}\n')
    assert report(tmp_path / "more", "-o", "json").json == report(rows, "-o", "json").json


def test_own_prices(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    told = report(rows, "-o", "json", "--price-book", str(tmp_path / "own.toml")).json
    assert told["book"]["currency"] == "EUR"
    assert {row["item"] for row in told["items"] if Decimal(row["cost"])} == {
        "disk",
        "disk-free",
        "overhead",
        "storage",
    }
