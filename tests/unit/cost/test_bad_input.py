"""Bad input to the commands about cost, capacity and the ledger: one line that says what to do, and the right exit code."""

from __future__ import annotations

import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.servers.small_disk import small_disk
from tests.unit.cost.rows import small_cluster, write_json_lines
from tests.unit.cost.test_cost_command import OWN
from tiering.ledger.columns import VERSION_KEY
from tiering.ledger.names import LedgerName, key_of
from tierlog.cli.app import run

ALL = ("--since", "2025-01-01")
MARKER = '{"cluster_id": "c", "format_version": 1}'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of rows, price books and buckets, sound and unsound ones."""
    place = tmp_path_factory.mktemp("bad")
    rows = write_json_lines(small_cluster(2), place / "rows.jsonl").read_text()
    (place / "half.jsonl").write_text(rows[:-40])
    (place / "empty.jsonl").write_text("")
    table = pa.Table.from_pylist([{**row._asdict(), "kind": str(row.kind)} for row in small_cluster(1)])
    pq.write_table(table, place / "sound.parquet")
    pq.write_table(table.replace_schema_metadata({VERSION_KEY: "9"}), place / "later.parquet")
    (place / "half.parquet").write_bytes((place / "sound.parquet").read_bytes()[:-100])
    for name, old, new in (
        ("nan", "0.01", "nan"),
        ("negative", "0.01", "-0.01"),
        ("class", "[disk]", "[classes.glacial]\nstorage_per_gb_month = 1\n[disk]"),
        ("future", "2026-05-01", "2999-05-01"),
        ("money", "EUR", "EUX"),
        ("toml", "[disk]", "[disk"),
    ):
        assert old in OWN
        (place / f"{name}.toml").write_text(OWN.replace(old, new))
    for name, marker in (("empty", MARKER), ("damaged", MARKER), ("later", MARKER.replace("1}", "99}"))):
        (place / name / "meta").mkdir(parents=True)
        (place / name / "meta/cluster.json").write_text(marker)
    for hour, file in enumerate(("half.parquet", "later.parquet")):
        key = key_of("c", LedgerName(1_796_000_400_000 + hour * 3_600_000, 1, f"{hour:032x}"))
        (place / "damaged" / key).parent.mkdir(parents=True, exist_ok=True)
        (place / "damaged" / key).write_bytes((place / file).read_bytes())
    return place


class Ran:
    def __init__(self, place: Path, *arguments: str) -> None:
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["tierlog", *(each.replace("@", f"{place}/") for each in arguments)])
            patch.delenv("TIERLOG_BOOTSTRAP_SERVER", raising=False)
            with pytest.raises(SystemExit) as ended:
                run()
        self.code, self.out, self.err = ended.value.code, out.getvalue(), err.getvalue()


ROWS = ("--rows", "@rows.jsonl", *ALL)
REPORT = ("cost", "report", *ROWS)
WHATIF = ("cost", "whatif", "--rows", "@rows.jsonl", *ALL, "--retention", "9d")
REPLAY = ("cost", "replay", "--rows", "@rows.jsonl", *ALL, "--from", "2025-01-01")
EMPTY = "name an earlier --since, or have brokers write one (tierlog.ledger.enable=true)"
DAMAGED = "that can be read: left out: meta/c/ledger/"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((*WHATIF, "nope"), "topic nope"),
        ((*REPLAY, "nope"), "topic nope"),
        ((*REPORT, "--since", "2999-01-01"), "--since 2999-01-01 is in the future; name an age, as 30d"),
        (("capacity", "report", *ROWS, "--since", "2999-01-01"), "--since 2999-01-01 is in the future"),
        (("ledger", "show", "--bucket", "dir:@empty", "--since", "2999-01-01"), "name an earlier --since"),
        (("ledger", "show", "--bucket", "dir:@empty", "--since", "1h", "--until", "2h"), "is not before --until"),
        (("ledger", "show", "--bucket", "dir:@empty"), EMPTY),
        (("ledger", "show", "--bucket", "dir:@none"), "no cluster has claimed this bucket"),
        (("ledger", "show", "--bucket", "dir:@later"), "the bucket has format_version 99; this release knows 1"),
        (("cost", "report", "--bucket", "dir:@empty"), EMPTY),
        (("cost", "report", "--bucket", "dir:@later"), "the bucket has format_version 99"),
        (("cost", "report", "--bucket", "dir:@damaged", *ALL), f"{DAMAGED}2026/11/30/"),
        (("cost", "report", "--bucket", "dir:@damaged", *ALL), ", and 1 more"),
        (("cost", "export", "--bucket", "dir:@damaged", *ALL, "--out", "@f"), DAMAGED),
        (("capacity", "report", "--bucket", "dir:@damaged", *ALL), DAMAGED),
        (("capacity", "report", "--bucket", "dir:@empty"), EMPTY),
        (("cost", "report", "--rows", "@empty.jsonl", *ALL), "the ledger has no row from 2025-01-01 until now"),
        (("cost", "report", "--rows", "@half.jsonl", *ALL), "this is no row of the ledger: Unterminated"),
        (("cost", "report", "--rows", "@half.parquet", *ALL), "cannot be read as Parquet rows of the ledger"),
        (("cost", "report", "--rows", "@later.parquet", *ALL), "ledger version 9; this release knows 1: read it"),
        (("capacity", "report", "--rows", "@later.parquet", *ALL), "ledger version 9; this release knows 1"),
        (("cost", "report", "--rows", "@", *ALL), "cannot be read: Is a directory"),
        ((*REPORT, "--price-book", "@nan.toml"), "storage_per_gb_month: NaN is no number; write"),
        ((*REPORT, "--price-book", "@negative.toml"), "-0.01 is out of range; write a number from 0"),
        ((*REPORT, "--price-book", "@class.toml"), "classes.glacial: is not a key here; there are archive-"),
        ((*REPORT, "--price-book", "@future.toml"), "as_of: 2999-05-01 is in the future; write the day"),
        ((*WHATIF, "flights", "--price-book", "@future.toml"), "as_of: 2999-05-01 is in the future"),
        ((*REPORT, "--price-book", "@money.toml"), "'EUX' is no currency; write three letters of ISO 4217"),
        ((*REPORT, "--price-book", "@toml.toml"), "it is no TOML"),
        *(
            ((*command, "--budget", amount), f"--budget {amount}: expected an amount, as 100 or 99.50")
            for command in (REPORT, (*REPLAY, "flights"))
            for amount in ("-1", "nan", "inf", "ten")
        ),
        (("capacity", "report", *ROWS, "--disk-threshold", "-5%"), "-5%: expected a percentage, as 80%"),
        (("capacity", "whatif", *ROWS, "--disk", "nan"), "--disk nan: expected a size, as 512MiB"),
        ((*REPORT, "-o", "html", "--out", "@none/x"), "none/x: cannot be written: No such file or directory"),
        ((*REPORT, "-o", "csv", "--out", "@"), "cannot be written: Is a directory"),
        ((*REPORT, "-o", "json", "--out", "@rows.jsonl"), "it is what the report is made from; name another"),
        (("capacity", "report", *ROWS, "-o", "csv", "--out", "@rows.jsonl"), "it is what the report is made from"),
        (("cost", "export", *ROWS, "--price-book", "@own.toml", "--out", "@rows.jsonl"), "it is what the report"),
        *(
            ((*REPORT, "-o", format, "--out", "/dev/full"), "/dev/full: cannot be written: No space left on device")
            for format in ("json", "yaml", "table", "csv", "html", "parquet")
        ),
    ],
)  # fmt: skip
def test_it_is_one_line(place: Path, arguments: tuple[str, ...], line: str) -> None:
    (place / "own.toml").write_text(OWN)
    before = (place / "rows.jsonl").read_bytes()
    ran = Ran(place, *arguments)
    assert (ran.code, ran.out) == (1, ""), ran.err
    assert len(ran.err.splitlines()) == 1 and line in ran.err, ran.err
    assert (place / "rows.jsonl").read_bytes() == before
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("arguments", [("--rf", "0"), ("--by", "colour"), ("--nothing", "1")])
def test_wrong_usage_is_another_code(place: Path, arguments: tuple[str, ...]) -> None:
    command = (*WHATIF, "flights") if arguments[0] == "--rf" else REPORT
    assert Ran(place, *command, *arguments).code == 2


def test_a_budget_of_nothing_is_crossed(place: Path) -> None:
    assert Ran(place, *REPORT, "--budget", "0").code == 3


def test_damaged_objects_beside_sound_ones_are_named(place: Path) -> None:
    ran = Ran(place, "ledger", "show", "--bucket", "dir:@damaged", "--since", "2026-11-30")
    assert (ran.code, len(ran.err.splitlines())) == (1, 2)
    assert "no ledger of tierlog" in ran.err and "ledger version 9; this release knows 1" in ran.err


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_file_that_is_there_is_replaced_as_a_whole(place: Path, tmp_path: Path, format: str) -> None:
    """Or stays as it was, where the disk is full."""
    with small_disk(tmp_path / "disk", 1) as disk:
        out = disk.path / "bill"
        out.write_text("of yesterday")
        out.chmod(0o640)
        disk.fill()
        ran = Ran(place, *REPORT, "-o", format, "--out", str(out))
        assert (ran.code, "No space left on device" in ran.err) == (1, True)
        assert out.read_text() == "of yesterday"
        disk.clear()
        assert Ran(place, *REPORT, "-o", format, "--out", str(out)).code == 0
        assert out.read_bytes() != b"of yesterday" and out.stat().st_mode & 0o777 == 0o640
        assert sorted(path.name for path in disk.path.iterdir()) == ["bill"]


def test_a_full_disk_under_stdout_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "tierlog", "cost", "books", "-o", "json"],
            stdout=full,
            stderr=subprocess.PIPE,
        )
    told = ran.stderr.decode()
    assert (ran.returncode, told.count("\n")) == (1, 1), told
    assert "the output cannot be written: No space left on device" in told
