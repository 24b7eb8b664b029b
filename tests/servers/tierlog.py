"""A tierlog broker as a process of its own, on free ports of the loopback or of a host of its own, for real clients."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tests.patience import PATIENT_S
from tests.servers.forked import Forked, nursery
from tests.servers.parents import die_with_parent
from tests.servers.ports import free_ports

START_TIMEOUT_S = PATIENT_S
STOP_TIMEOUT_S = PATIENT_S


@dataclass
class BrokerProcess:
    """``directory`` keeps everything; the ports stay the same over restarts. ``prefix`` is what the command is put behind
    where ``host`` is another than this one. ``checkout``: another one, with its own ``.venv``, whose broker it is.
    ``forked``: from the nursery, which spares the imports of a start."""

    forked: ClassVar[bool] = False

    directory: Path
    overrides: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()
    checkout: Path | None = None

    def __post_init__(self) -> None:
        self.port, self.http_port = free_ports(2)
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.log = self.directory / "broker.log"

    @property
    def bootstrap(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def log_dir(self) -> Path:
        return self.directory / "logs"

    @property
    def objects(self) -> Path:
        return self.directory / "objects"

    def start(self) -> BrokerProcess:
        """Returns once ``/readyz`` says so."""
        self.launch()
        self.await_ready()
        return self

    def await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_ready():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.02)

    def launch(self) -> None:
        """Starts the process without waiting for it."""
        assert self.process is None
        self.directory.mkdir(parents=True, exist_ok=True)
        arguments = ["up", "--data", str(self.directory), "--host", self.host]
        arguments += ["--port", str(self.port), "--http-port", str(self.http_port)]
        for key, value in self.overrides.items():
            arguments += ["--override", f"{key}={value}"]
        environment = {**os.environ, "TIERLOG_FATAL_BUGS": "1", **self.env}
        with self.log.open("ab") as output:
            if self.forked and not self.prefix and self.checkout is None:
                self.process = nursery().start(arguments, environment, output)
            else:
                self.process = subprocess.Popen(
                    [*self.prefix, self._python, "-m", "tierlog", *arguments],
                    cwd=self.checkout,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    preexec_fn=die_with_parent,
                )

    @property
    def _python(self) -> str:
        return sys.executable if self.checkout is None else str(self.checkout / ".venv/bin/python")

    def is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.host}:{self.http_port}/readyz", timeout=5).close()
        except (urllib.error.HTTPError, OSError):
            return False
        return True

    def metrics(self) -> dict[str, float]:
        """The scrape as ``name{labels}`` → value."""
        with urllib.request.urlopen(
            f"http://{self.host}:{self.http_port}/metrics", timeout=PATIENT_S
        ) as reply:
            text = reply.read().decode()
        rows = (line.rpartition(" ") for line in text.split("\n") if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    def stop(self) -> int:
        """SIGTERM, and the exit code of the clean stop."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"the broker did not stop:\n{self.log.read_text()[-4000:]}") from None

    def __enter__(self) -> BrokerProcess:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        code = self.stop()
        assert code == 0, f"exit code {code}:\n{self.log.read_text()[-4000:]}"
