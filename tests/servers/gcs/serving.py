"""Runs the server on a thread of this process, where a test reads and changes what it holds, or apart."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from tests.patience import PATIENT_S
from tests.servers.gcs.app import application
from tests.servers.gcs.bucket import Bucket
from tests.servers.gcs.state import State
from tests.servers.ports import free_ports
from tests.servers.processes import running

BUCKET = "tierlog-contract"


@dataclass(frozen=True, slots=True)
class GcsServer:
    """Where it is, and what it holds where that can be looked at: ``held`` is the server's own."""

    name: str
    endpoint: str
    bucket: str
    held: State | None = None

    @property
    def state(self) -> State:
        assert self.held is not None, f"{self.name} shows nothing of what it holds"
        return self.held

    def holds(self) -> Bucket:
        return self.state.buckets[self.bucket]


@contextmanager
def gcs(state: State | None = None) -> Iterator[GcsServer]:
    """A server with one bucket, until the block ends."""
    held = state or State()
    if BUCKET not in held.buckets:
        held.make_bucket(BUCKET)
    (port,) = free_ports(1)
    config = uvicorn.Config(
        application(held), host="127.0.0.1", port=port, log_level="error", lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the GCS server did not start")
        time.sleep(0.01)
    try:
        yield GcsServer("gcs", f"http://127.0.0.1:{port}", BUCKET, held)
    finally:
        server.should_exit = True
        thread.join(PATIENT_S)


@contextmanager
def gcs_apart(directory: Path) -> Iterator[GcsServer]:
    """A server in a process of its own: what it holds is in its memory. Nothing soft deleted stays."""
    directory.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tests.servers.gcs", str(port)]
    with running(command, log=directory / "gcs.log", ready_url=endpoint, env=dict(os.environ)):
        yield GcsServer("gcs", endpoint, BUCKET)
