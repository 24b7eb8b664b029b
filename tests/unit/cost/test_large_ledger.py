"""Reports from the ledger of many brokers: memory is that of one broker's hour and of sums, however many there are.

``TIERLOG_LEDGER_SIZE=50x3 pytest -rP tests/unit/cost/test_large_ledger.py`` does it for so many brokers and hours, of 20,000
rows each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.tiered import figure
from tests.unit.cost.large_ledger import LED, LargeLedger

SIZE = os.environ.get("TIERLOG_LEDGER_SIZE")
BROKERS, HOURS = map(int, (SIZE or "10x2").split("x"))
SOME_LED = LED if SIZE else LED // 4
BOUND_BYTES = 300_000_000
GROWTH_BYTES = 30_000_000
"""Over a small ledger; to hold one hour of all brokers takes seventy."""
PROGRAM = """
import contextlib, io, json, sys
from tierlog.cli.app import app
told = []
for url in sys.argv[1:]:
    for noun in ("cost", "capacity"):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            app([noun, "report", "--bucket", url, "--since", "2025-01-01", "-o", "json"], standalone_mode=False)
        peak_kib = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
        told.append([json.loads(out.getvalue()), peak_kib << 10])
print(json.dumps(told))
"""


def test_memory_grows_neither_with_brokers_nor_with_hours(tmp_path: Path) -> None:
    """In a process of its own: a small ledger, and then a large one."""
    small = LargeLedger(tmp_path / "small", 3, LED // 8)
    small.add_hour(0)
    large = LargeLedger(tmp_path / "large", BROKERS, SOME_LED)
    for hour in range(HOURS):
        large.add_hour(hour)
    command = [sys.executable, "-c", PROGRAM, small.url, large.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (_, _), (_, before), (cost, cost_peak), (capacity, peak) = json.loads(done.stdout)
    figure(
        f"{BROKERS} brokers, {HOURS} hours of {10 * SOME_LED:,} rows: {cost_peak >> 20} and {peak >> 20} MiB"
    )
    assert peak < BOUND_BYTES
    assert SIZE or peak - before < GROWTH_BYTES
    # All of it was counted.
    assert cost["hours"] == HOURS
    assert len(capacity["disks"]) == BROKERS
    (stored,) = [row for row in cost["items"] if (row["item"], row["of"]) == ("storage", "standard")]
    assert float(stored["quantity"]) * 744 == pytest.approx(50 * BROKERS * SOME_LED * HOURS)
    assert sum(topic["objects"] for topic in capacity["topics"]) == 200 * BROKERS * SOME_LED
