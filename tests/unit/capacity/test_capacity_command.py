"""``tierlog capacity`` on a file of rows: three separate figures, days until full, thresholds for cron, what-ifs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit.cost.rows import GIB, START_MS, small_cluster, write_json_lines
from tiering.ledger.rows import HOUR_MS, Direction, Kind, LedgerRow
from tierlog.cli.app import app
from tierlog.errors import UserError

DAYS = 40
PER_HOUR = GIB // 24


def growing() -> list[LedgerRow]:
    """Two disks of 100 GiB: 40 GiB and 1 GiB more a day; 10 GiB are written a day to a tiered partition on both."""
    rows = []
    for hour in range(DAYS * 24 + 1):
        hour_ms = START_MS + hour * HOUR_MS
        held = 40 * GIB + hour * PER_HOUR
        for broker in (1, 2):
            disk = LedgerRow(
                hour_ms, broker, Kind.DISK, log_dir="/d", held_bytes=held, capacity_bytes=100 * GIB
            )
            local = LedgerRow(
                hour_ms, broker, Kind.LOCAL, topic="t", partition=0, log_dir="/d", held_bytes=held
            )
            rows += [disk._replace(duplicated_bytes=5 * GIB), local._replace(duplicated_bytes=20 * GIB)]
        rows += [
            LedgerRow(hour_ms, 1, Kind.STORED, topic="t", partition=0, held_bytes=300 * GIB, objects=600),
            LedgerRow(
                hour_ms, 1, Kind.TRAFFIC, topic="t", partition=0, direction=Direction.PRODUCE,
                received_bytes=10 * PER_HOUR,
            ),
        ]  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_json_lines(growing(), tmp_path_factory.mktemp("rows") / "ledger.jsonl")


def run(rows: Path, verb: str, *arguments: str) -> Any:
    command = ["capacity", verb, "--rows", str(rows), "--since", "2025-01-01", *arguments]
    return CliRunner().invoke(app, command, env={"TIERLOG_BOOTSTRAP_SERVER": None})


def test_a_report_for_programs(rows: Path) -> None:
    told = json.loads(run(rows, "report", "-o", "json", "--disk-threshold", "90%").stdout)
    disk = told["disks"][0]
    assert (disk["local_bytes"], disk["duplicated_bytes"], disk["others_bytes"]) == (
        40 * GIB + DAYS * 24 * PER_HOUR,
        20 * GIB,
        5 * GIB,
    )
    # 85 GiB are used, and 1 GiB a day comes.
    assert disk["days_to_full"] == {"p50": 15.0, "p90": 15.0}
    assert disk["days_to_threshold"] == {"p50": 5.0, "p90": 5.0}
    assert disk["store_away_days"] == 1.5
    assert [slope["days"] for slope in disk["slopes"]] == [7, 30]
    assert disk["slopes"][0]["per_day_bytes"] == pytest.approx(GIB, rel=1e-6)
    (topic,) = told["topics"]
    assert (topic["remote_bytes"], topic["objects"]) == (300 * GIB, 600)
    assert topic["once_bytes"] == 300 * GIB + disk["local_bytes"] - 20 * GIB
    assert topic["held_days"] == 36.0


def test_a_threshold_for_cron(rows: Path) -> None:
    assert run(rows, "report").exit_code == 3
    assert run(rows, "report", "--disk-threshold", "86%").exit_code == 0


def test_what_if(rows: Path) -> None:
    def disk(*arguments: str) -> Any:
        return json.loads(run(rows, "whatif", "-o", "json", *arguments).stdout)["disks"][0]

    assert disk("--growth", "3")["days_to_full"]["p50"] == 5.0
    assert disk("--disk", "200GiB")["days_to_full"]["p50"] == 115.0
    spread = disk("--brokers", "4")
    assert spread["local_bytes"] == pytest.approx(40 * GIB)
    assert spread["store_away_days"] == 11.0
    assert spread["days_to_full"]["p50"] == 110.0
    # 60 GiB are not in the bucket yet.
    assert disk("--local-retention", "6h")["local_bytes"] == pytest.approx(60 * GIB)
    assert disk("--local-retention", "10d")["local_bytes"] == pytest.approx(100 * GIB)


def test_people_and_pages(rows: Path, tmp_path: Path) -> None:
    shown = run(rows, "report").stdout
    for words in ("OF IT ALSO REMOTE", "15.0 d, 15.0 d", "30 days", "1.5 d", "300.0 GiB", "36.0 d"):
        assert words in shown, words
    run(rows, "report", "-o", "html", "--out", str(tmp_path / "c.html"))
    assert (tmp_path / "c.html").read_text().count("<svg") == 3
    assert run(rows, "report", "-o", "csv").stdout.count("\n") == 3


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["report", "--disk-threshold", "much"], "--disk-threshold much: expected a percentage, as 80%"),
        (["report", "--disk-threshold", "120%"], "--disk-threshold 120%: expected a percentage from 1% to 100%"),
        (["whatif", "--disk", "big"], "--disk big: expected a size, as 512MiB"),
        (["whatif", "--local-retention", "long"], "--local-retention long: expected a duration, as 30s, 6h or 90d"),
        (["whatif", "--local-retention", "forever"], "--local-retention forever: expected a duration"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(rows: Path, arguments: list[str], line: str) -> None:
    error = run(rows, *arguments).exception
    assert isinstance(error, UserError)
    assert line in str(error)


def test_rows_without_a_disk(tmp_path: Path) -> None:
    none = [row for row in small_cluster(2) if row.kind != Kind.DISK]
    error = run(write_json_lines(none, tmp_path / "none"), "report").exception
    assert "no row tells of a disk" in str(error)
