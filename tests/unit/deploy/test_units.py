"""``deploy/systemd``: the units are right by systemd's own judgement, and agree with the broker and its properties."""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.real_systemd import UNITS
from tierlog.broker.node import DRAIN_S, HANDOVER_S
from tierlog.broker.work.background import CLOSE_S
from tierlog.config.properties import load

ROOT = UNITS.parents[1]
NAMES = ("tierlog.service", "tierlog@.service")


def settings(unit: str) -> dict[str, str]:
    """The last value of each."""
    lines = (UNITS / unit).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]\w*=", line))


@pytest.mark.parametrize("unit", NAMES)
def test_systemd_finds_no_fault(unit: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("THE UNITS ARE NOT VERIFIED: there is no systemd-analyze; run tools/install_test_deps.sh")
    # Its command is not installed here: any that can be run stands in for it.
    text = (UNITS / unit).read_text().replace("/opt/tierlog/bin/tierlog", sys.executable)
    path = tmp_path / unit.replace("@.", "@east.")
    path.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_a_stop_has_the_time_that_it_may_take() -> None:
    for unit in NAMES:
        assert settings(unit)["TimeoutStopSec"] == "3min"
    assert HANDOVER_S + DRAIN_S + 3 * CLOSE_S < 3 * 60


def test_the_units_differ_in_names_only() -> None:
    one, several = ((UNITS / name).read_text().splitlines() for name in NAMES)
    changed = [
        line[2:]
        for line in difflib.ndiff(one, several)
        if line.startswith(("- ", "+ ")) and not line[2:].startswith("#")
    ]
    assert {line.partition("=")[0] for line in changed} == {
        "Description",
        "EnvironmentFile",
        "ExecStart",
        "StateDirectory",
    }


def test_the_example_keeps_its_data_where_the_unit_may_write() -> None:
    config = load(ROOT / "deploy/server.properties")
    places = [*config.log_dirs, config.metadata_store, config.tierlog_object_store]
    assert all(f"/var/lib/{settings(NAMES[0])['StateDirectory']}/" in place for place in places)
    assert settings(NAMES[0])["ExecStart"].endswith(" broker --config=/etc/tierlog/server.properties")
