"""What-ifs against what does come of the change: the topic's ledger under the other settings, by the same book."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit.cost.rows import GIB, profile_of, small_cluster, write_json_lines
from tests.unit.cost.world import MIB, Settings, ledger_of
from tiering.cost.bill import make_bill
from tiering.cost.profile import Profile, monthly
from tiering.cost.replay import bytes_between, evenly, price_replay
from tiering.cost.shipped import DEFAULT, shipped
from tiering.cost.usage import Item
from tiering.cost.whatif import Change, Rung, break_evens, changed, with_minimum_days
from tiering.ledger.rows import Cause, Kind
from tierlog.cli.app import app
from tierlog.errors import UserError

BOOK = shipped(DEFAULT)
DAY_MS = 86_400_000
NOW = Settings()
LADDER = (("standard", 30), ("infrequent", 90))


def profile(settings: Settings) -> Profile:
    return profile_of(ledger_of(settings), "t")


def test_a_profile_costs_what_its_bill_does() -> None:
    bill = make_bill(ledger_of(NOW), BOOK)
    told = monthly(profile(NOW), BOOK)
    for item in (Item.STORAGE, Item.REQUESTS, Item.CROSS_ZONE):
        billed = sum((charge.cost for charge in bill.charges if charge.use.item is item), Decimal(0))
        assert told[item] == pytest.approx(bill.per_hours(billed, BOOK.month_hours), rel=Decimal("1e-9"))
    disk = sum((charge.cost for charge in bill.charges if charge.use.item is Item.DISK), Decimal(0))
    assert told[Item.DISK] == pytest.approx(
        bill.per_hours(disk, BOOK.month_hours) * 100 / BOOK.disk_fill_percent, rel=Decimal("1e-9")
    )


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (Change(retention_ms=90 * DAY_MS), NOW._replace(retention_days=90)),
        (Change(local_retention_ms=DAY_MS // 4), NOW._replace(local_hours=6)),
        (Change(segment_bytes=64 * MIB), NOW._replace(segment_mib=64)),
        (Change(segment_bytes=1024 * MIB), NOW._replace(segment_mib=1024)),
        (Change(replicas=2), NOW._replace(replicas=2)),
        (Change(tiers=(Rung("standard", 30 * DAY_MS), Rung("infrequent", 90 * DAY_MS))), NOW._replace(tiers=LADDER)),
        (
            Change(90 * DAY_MS, DAY_MS // 4, 512 * MIB, None, None, 2),
            NOW._replace(retention_days=90, local_hours=6, segment_mib=512, replicas=2),
        ),
    ],
)  # fmt: skip
def test_a_what_if_is_what_comes_of_it(change: Change, after: Settings) -> None:
    told = monthly(changed(profile(NOW), change), BOOK)
    come = monthly(profile(after), BOOK)
    # Bytes that a move takes out of a class pass no broker, so they are in no ledger.
    del told[Item.RETRIEVAL], come[Item.RETRIEVAL]
    for item, cost in come.items():
        assert told[item] == pytest.approx(cost, rel=Decimal("0.03")), item
    assert sum(told.values()) == pytest.approx(sum(come.values()), rel=Decimal("0.01"))


def test_heads_are_copied_once_a_minute_at_most() -> None:
    def copies(segment_bytes: int) -> float:
        after = changed(profile(NOW), Change(segment_bytes=segment_bytes))
        return sum(count for asked, count in after.requests_per_day.items() if asked.cause == Cause.COMMIT)

    # 24 GiB a day: a segment of 256 MiB comes 96 times, one of 17 MiB each minute.
    now = copies(256 * MIB)
    assert copies(64 * MIB) == pytest.approx(4 * now)
    assert copies(MIB) == pytest.approx(copies(4 * MIB)) == pytest.approx(24 * 60 / 96 * now)


def test_no_change_changes_nothing() -> None:
    now = profile(NOW)
    assert monthly(changed(now, Change()), BOOK) == pytest.approx(monthly(now, BOOK))


def test_objects_of_an_hour_that_has_just_begun_are_as_large_as_they_are() -> None:
    rows = [
        row._replace(byte_hours=row.byte_hours / 60) if row.kind == Kind.STORED else row
        for row in small_cluster(1)
    ]
    assert profile_of(rows, "flights").object_bytes == pytest.approx(0.5 * GIB)


def test_minimum_days_are_paid() -> None:
    change = Change(tiers=(Rung("standard", 20 * DAY_MS), Rung("infrequent", 30 * DAY_MS)))
    after = with_minimum_days(changed(profile(NOW), change), change, BOOK)
    # 24 GB leave infrequent each day, 20 days too early.
    assert monthly(after, BOOK)[Item.EARLY] == pytest.approx(Decimal(24 * 31 * 20) / 31 * Decimal("0.0125"))
    shorter = Change(retention_ms=10 * DAY_MS, tiers=change.tiers)
    assert with_minimum_days(changed(profile(NOW), shorter), shorter, BOOK).early_per_day == {}


def test_break_even() -> None:
    told = {each.storage_class: each.reads_per_month for each in break_evens(BOOK, 4 * MIB)}
    # (0.023 − 0.0125) ÷ (0.01 + 256 × (0.001 − 0.0004) ÷ 1,000)
    assert told["infrequent"] == pytest.approx(0.0105 / (0.01 + 256 * 0.0006 / 1000))
    assert told["cold"] == pytest.approx(0.019 / (0.03 + 256 * 0.0096 / 1000))


def test_compression_and_more_replicas() -> None:
    half = changed(profile(NOW), Change(ratio=0.5))
    for item in (Item.DISK, Item.STORAGE, Item.CROSS_ZONE):
        assert monthly(half, BOOK)[item] == pytest.approx(
            monthly(profile(NOW), BOOK)[item] / 2, rel=Decimal("1e-6")
        )
    three = changed(profile(NOW._replace(replicas=1)), Change(replicas=3))
    assert monthly(three, BOOK)[Item.CROSS_ZONE] == pytest.approx(
        monthly(profile(NOW), BOOK)[Item.CROSS_ZONE]
    )


def test_a_replay_reads_disks_first_and_the_coldest_last() -> None:
    topic = profile(Settings(tiers=LADDER))
    per_day = 24 * 1024 * MIB
    everything = bytes_between(topic, 1000, 0)
    assert everything[""] + everything["standard"] + everything["infrequent"] == pytest.approx(
        topic.once_bytes, rel=1e-6
    )
    assert bytes_between(topic, 60, 50) == {"infrequent": 10 * per_day}
    edge = bytes_between(topic, 31, 29)
    assert sum(edge.values()) == pytest.approx(2 * per_day)
    assert edge["infrequent"] == pytest.approx(per_day, rel=0.05)
    assert bytes_between(topic, 0.5, 0) == {"": per_day // 2}
    (read,) = price_replay(evenly({"infrequent": 100 << 30}, 4 * MIB), BOOK)
    assert (read.gets, read.requests_cost, read.retrieval_cost) == (25600, Decimal("0.0256"), Decimal("1.00"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_json_lines(small_cluster(), tmp_path_factory.mktemp("rows") / "ledger.jsonl")


class TestCommands:
    @staticmethod
    def run(rows: Path, *arguments: str) -> Any:
        command = ["cost", *arguments, "--rows", str(rows), "--since", "2025-01-01"]
        return CliRunner().invoke(app, command, env={"TIERLOG_BOOTSTRAP_SERVER": None})

    def test_whatif(self, rows: Path) -> None:
        wish = ("--tiers", "local:6h,standard:5d,infrequent:9d", "--rf", "2", "--compression", "zstd")
        told = json.loads(self.run(rows, "whatif", "flights", *wish, "-o", "json").stdout)
        assert told["after"]["remote_bytes"].keys() == {"standard", "infrequent"}
        assert Decimal(told["total"]["difference"]) < 0
        assert any("infrequent, which bills 30" in line for line in told["warnings"])
        assert any("zstd leaves 33% of records" in line for line in told["assumptions"])
        small = self.run(rows, "whatif", "flights", "--segment-bytes", "1MiB").stdout
        for words in (
            "as of 2026-05-01",
            "DIFFERENCE",
            "full reads a month",
            "segments are 1.0 MiB in the mean",
        ):
            assert words in small, words

    def test_replay(self, rows: Path) -> None:
        told = json.loads(self.run(rows, "replay", "flights", "--from", "2025-01-01", "-o", "json").stdout)
        assert told["bytes"] == pytest.approx(510 * 2**30)
        assert {read["class"] for read in told["reads"]} == {"local", "standard"}
        crossed = self.run(rows, "replay", "flights", "--from", "2025-01-01", "--budget", "0.01")
        assert (crossed.exit_code, "crossed" in crossed.stdout) == (3, True)

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["whatif", "flights"], "nothing would change: name at least one of --retention"),
            (["whatif", "flihgts", "--rf", "2"], "no row of topic flihgts since 2025-01-01; it tells of flights, old"),
            (["whatif", "flights", "--retention", "long"], "--retention long: expected a duration, as 30s, 6h or"),
            (["whatif", "flights", "--tiers", "glacier:3d"], "--tiers glacier:3d: there is no class glacier"),
            (["whatif", "flights", "--compression", "rar"], "--compression rar: expected one of none, gzip"),
            (["whatif", "flights", "--compression", "zstd:0"], "--compression zstd:0: expected a ratio above 0"),
            (["whatif", "flights", "--segment-bytes", "0"], "--segment-bytes 0: expected a size"),
            (["whatif", "flights", "--local-retention", "forever"], "--local-retention forever: that is no tier"),
            (["replay", "flights", "--from", "1d", "--to", "2d"], "--from 1d is not before --to 2d"),
        ],
    )  # fmt: skip
    def test_mistakes_are_one_line(self, rows: Path, arguments: list[str], line: str) -> None:
        error = self.run(rows, *arguments).exception
        assert isinstance(error, UserError)
        assert line in str(error)
