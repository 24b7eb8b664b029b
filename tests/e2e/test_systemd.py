"""What a broker tells systemd, and when. Several brokers under one supervisor: ``tests/unit/cli/test_member_notices``;
systemd itself and our units: ``test_deploy``.
"""

from __future__ import annotations

import signal
import socket
import time
import urllib.request
from pathlib import Path

from tests.patience import PATIENT_S
from tests.servers.systemd import NotifySocket
from tests.servers.tierlog import BrokerProcess


def answers(http_port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/readyz", timeout=PATIENT_S) as reply:
        return reply.read() == b"ready\n"


def test_ready_is_told_when_clients_are_served_and_the_loop_is_heard(tmp_path: Path) -> None:
    with NotifySocket(tmp_path / "notify") as systemd:
        broker = BrokerProcess(tmp_path / "broker", env=systemd.environment(watchdog_ms=300))
        broker.launch()
        try:
            assert systemd.until("READY=1") == ["READY=1"]
            assert answers(broker.http_port)
            assert set(systemd.until("WATCHDOG=1")) == {"WATCHDOG=1"}
            assert broker.process is not None
            broker.process.send_signal(signal.SIGSTOP)
            await_stopped(broker.process.pid)
            systemd.told()
            time.sleep(0.4)
            assert systemd.told() == [], "a broker that hangs says nothing"
            broker.process.send_signal(signal.SIGCONT)
            systemd.until("WATCHDOG=1")
            assert broker.stop() == 0
            assert set(systemd.until("STOPPING=1")) <= {"WATCHDOG=1", "STOPPING=1"}
        finally:
            broker.kill()


def await_stopped(pid: int) -> None:
    deadline_s = time.monotonic() + PATIENT_S
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_start_that_waits_for_the_metadata_store_is_not_ready(tmp_path: Path) -> None:
    """And a stop in the midst of it is a clean one."""
    with NotifySocket() as systemd, socket.create_server(("127.0.0.1", 0)) as silent:
        store = f"etcd://127.0.0.1:{silent.getsockname()[1]}"
        environment = systemd.environment(watchdog_ms=300)
        broker = BrokerProcess(tmp_path / "broker", {"metadata.store": store}, env=environment)
        broker.launch()
        try:
            silent.settimeout(PATIENT_S)
            silent.accept()[0].close()
            assert systemd.told() == []
            assert broker.stop() == 0
            assert systemd.told() == ["STOPPING=1"]
        finally:
            broker.kill()


def test_a_failed_start_is_never_ready(tmp_path: Path) -> None:
    with NotifySocket(tmp_path / "notify") as systemd:
        broker = BrokerProcess(tmp_path, {"log.dirs": "/proc/nowhere"}, env=systemd.environment())
        broker.launch()
        assert broker.process is not None
        assert broker.process.wait(PATIENT_S) == 1
        assert "READY=1" not in systemd.told()
