"""The broker of the demo: ``tierlog up`` in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
# Only the pace of the demo: Kafka looks at retention every five minutes, and nobody waits that long for a show.
PACE = {"log.retention.check.interval.ms": "1000", "remote.log.manager.task.interval.ms": "1000"}


class BrokerFailed(Exception):
    """One line for the user."""


def free_port(wanted: int) -> int:
    """``wanted`` where nobody listens on it, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise BrokerFailed("no port of 127.0.0.1 is free")


class Broker:
    """``start`` returns once clients are served; ``stop`` is a clean stop. The log goes to ``DATA/broker.log``."""

    def __init__(self, data: Path, port: int, http_port: int) -> None:
        self.data = data
        self.port, self.http_port = free_port(port), free_port(http_port)
        self.start_s = 0.0
        self._log = data / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def start(self) -> None:
        """Raises BrokerFailed with the last line of its log."""
        self.data.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tierlog", "up", "--data", str(self.data)]
        command += ["--port", str(self.port), "--http-port", str(self.http_port)]
        for key, value in PACE.items():
            command += ["--override", f"{key}={value}"]
        started_s = time.monotonic()
        with self._log.open("ab") as output:
            # A session of its own: Ctrl-C is for the demo, which then stops the broker.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        while not self._is_ready():
            if self._process.poll() is not None:
                raise BrokerFailed(f"the broker did not start: {self._last_line()}")
            if time.monotonic() - started_s > START_TIMEOUT_S:
                self.stop()
                raise BrokerFailed(f"the broker was not ready in {START_TIMEOUT_S:.0f} s: see {self._log}")
            time.sleep(0.02)
        self.start_s = time.monotonic() - started_s

    def _is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.http}/readyz", timeout=5).close()
        except (urllib.error.HTTPError, OSError):
            return False
        return True

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"see {self._log}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int:
        """Its exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
