"""A broker out of the nursery is a process as one with its own start: the same lines, signals and exit codes."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.servers.tierlog import BrokerProcess


@pytest.mark.parametrize("forked", [False, True])
def test_starts_stops_and_refuses_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: bool
) -> None:
    monkeypatch.setattr(BrokerProcess, "forked", forked)
    monkeypatch.setenv("TIERLOG_LOG_LEVEL", "warning")
    monkeypatch.chdir(tmp_path)
    broker = BrokerProcess(tmp_path / "a", {"node.id": "7"}, env={"TIERLOG_LOG_LEVEL": "info"})
    broker.start()
    assert broker.process is not None
    with pytest.raises(subprocess.TimeoutExpired):
        broker.process.wait(0.05)
    assert broker.process.poll() is None
    assert Path(f"/proc/{broker.process.pid}/cwd").resolve() == tmp_path.resolve()
    assert Path(f"/proc/{broker.process.pid}/exe").resolve() == Path("/proc/self/exe").resolve()
    assert broker.stop() == 0
    assert '"event": "broker stopped", "node": 7, "level": "info"' in broker.log.read_text()
    broker.start()
    assert broker.process is not None
    broker.process.send_signal(signal.SIGKILL)
    assert broker.process.wait(PATIENT_S) == -signal.SIGKILL
    broker.process.send_signal(signal.SIGKILL)
    assert broker.process.poll() == -signal.SIGKILL


@pytest.mark.parametrize("forked", [False, True])
def test_a_mistake_is_one_line_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: bool
) -> None:
    monkeypatch.setattr(BrokerProcess, "forked", forked)
    broker = BrokerProcess(tmp_path, {"node.id": "x"})
    broker.launch()
    assert broker.process is not None
    assert broker.process.wait(PATIENT_S) == 1
    (line,) = broker.log.read_text().splitlines()
    assert line.startswith("tierlog: command line: node.id=x: ")
