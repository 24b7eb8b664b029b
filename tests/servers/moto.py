"""moto: an S3 imitation in Python, as a second opinion on what we send."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ports import free_ports
from tests.servers.processes import S3Server, await_bucket, minio_client, running

BUCKET = "tierlog-contract"


@contextmanager
def moto(directory: Path) -> Iterator[S3Server]:
    """Run moto's server in a process of its own, everything in its memory."""
    directory.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.servers.moto_apart",
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    with running(
        command, log=directory / "moto.log", ready_url=f"{endpoint}/moto-api/", env=dict(os.environ)
    ):
        server = S3Server("moto", endpoint, "tierlog-test", "tierlog-test-secret", "us-east-1", BUCKET)
        minio_client(server).make_bucket(BUCKET)
        await_bucket(server)
        yield server
