"""Months of a cluster's ledger: reports hold an hour of it, and sums, so memory does not grow with the rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.tiered import figure
from tests.unit.cost.rows import START_MS, small_cluster, write_json_lines
from tiering.cost.bill import make_bill
from tiering.cost.shipped import DEFAULT, shipped
from tiering.cost.usage import Detail
from tiering.ledger.rows import HOUR_MS, LedgerRow
from tierlog.admin.capacity import filled
from tierlog.admin.cost.rows import rows_in
from tierlog.admin.cost.watched import Watched
from tierlog.errors import UserError

HOURS = 100 * 24
TOPICS = 7
BOUND_BYTES = 300 << 20
COARSE = Detail(day=False, partition=False, client=False)


def months() -> Iterator[LedgerRow]:
    """Some 290,000 rows."""
    one = small_cluster(1)
    topics = [
        row._replace(topic=row.topic and f"{row.topic}-{number}", log_dir=row.log_dir and f"/d{number}")[1:]
        for number in range(TOPICS)
        for row in one
    ]
    for hour in range(HOURS):
        hour_ms = START_MS + hour * HOUR_MS
        for fields in topics:
            yield LedgerRow(hour_ms, *fields)


def measure() -> dict[str, int]:
    watched = Watched()
    bill = make_bill(months(), shipped(DEFAULT), COARSE, beside=[watched])
    return {"hours": bill.hours, "charges": len(bill.charges), "idle": len(watched.idle_topics())}


def test_memory_does_not_grow_with_the_rows() -> None:
    """In a process of its own, for the sake of its peak."""
    code = (
        "import json; from tests.unit.cost import test_long_ledger as long; told = long.measure(); "
        "print(json.dumps(told | {'peak_kib': int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    figure(f"a bill of {HOURS * TOPICS * len(small_cluster(1)):,} rows: at most {told['peak_kib'] >> 10} MiB")
    assert told.pop("peak_kib") << 10 < BOUND_BYTES
    assert told == {"hours": HOURS, "charges": 65, "idle": TOPICS}


def test_less_detail_is_the_same_bill() -> None:
    rows, book = small_cluster(60), shipped(DEFAULT)
    fine, coarse = make_bill(rows, book), make_bill(rows, book, COARSE)
    assert len(coarse.charges) < len(fine.charges)
    assert coarse.total == fine.total
    assert coarse.baseline == fine.baseline
    for topic in ("flights", "old", ""):
        costs = [
            sum((charge.cost for charge in bill.charges if charge.use.topic == topic), Decimal(0))
            for bill in (fine, coarse)
        ]
        assert costs[0] == pytest.approx(costs[1], abs=Decimal("1e-9"))


def test_capacity_holds_a_number_for_an_hour() -> None:
    watched, filling = filled(small_cluster(400))
    assert watched.topics == {"flights", "old"}
    for disk in filling.disks():
        assert len(disk.series) == 400
        assert disk.kept_per_day == pytest.approx(24 * 2**30)
        assert disk.duplicated_bytes == 10 * 2**30
    assert {topic.topic: topic.objects for topic in filling.topics()} == {"flights": 1000, "old": 0}


def test_files_are_read_hour_by_hour(tmp_path: Path) -> None:
    rows = small_cluster(3)
    lines = write_json_lines([*rows, *rows[-2:]], tmp_path / "rows.jsonl")
    told = list(rows_in(lines, 0, 2**60))
    assert told[:-2] == rows[:-2]
    # Told in pieces: sums add up, of states the last one counts.
    assert told[-1].sent_bytes == 2 * rows[-1].sent_bytes
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([row._asdict() | {"kind": str(row.kind)} for row in rows]), file)
    assert list(rows_in(file, 0, 2**60)) == rows
    mixed = write_json_lines([*rows, rows[0]], tmp_path / "mixed.jsonl")
    with pytest.raises(
        UserError, match=r"mixed\.jsonl: its rows are not in the order of their hours; sort them by hour_ms"
    ):
        list(rows_in(mixed, 0, 2**60))


def test_hours_of_many_rows_are_read_broker_by_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tierlog.admin.cost.rows.HELD_ROWS", 4)
    rows = sorted(small_cluster(3), key=lambda row: row[:2])
    pieces = [row for row in rows for _ in range(2)]
    told = list(rows_in(write_json_lines(pieces, tmp_path / "pieces.jsonl"), 0, 2**60))
    assert [row[:3] for row in told] == [row[:3] for row in rows]
    assert [row.sent_bytes for row in told] == [2 * row.sent_bytes for row in rows]
    assert [row.held_bytes for row in told] == [row.held_bytes for row in rows]
    mixed = write_json_lines([*rows, rows[-1]._replace(broker_id=1)], tmp_path / "mixed.jsonl")
    with pytest.raises(
        UserError, match=r"mixed\.jsonl: an hour of more than 4 rows, and those of broker 1 are not together"
    ):
        list(rows_in(mixed, 0, 2**60))
