"""Faults that need networks and disks of their own: a broken link, a lost power, a lost member of etcd."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.cluster.network import namespaces_work
from tests.servers.etcd import binary
from tests.servers.parents import die_with_parent

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(binary() is None, reason="this machine has no etcd server")
@pytest.mark.skipif(not namespaces_work(), reason="no namespaces can be made here")
def test_nothing_is_lost_where_links_break_and_power_fails(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos.cluster", "--faults", "3", "--seed", "6", "--rolling", "0"]
    command += ["--kinds", "cut,power,etcd loss", "--lease-ms", "2000", "--data", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=die_with_parent,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 violations" in done.stdout
