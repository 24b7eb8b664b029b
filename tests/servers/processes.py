"""Starting a server program for a test session and being sure that it ends with it."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from minio import Minio

from tests.patience import PATIENT_S
from tests.servers.parents import die_with_parent


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where a running S3 server is and who may use it."""

    name: str
    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str
    bucket: str


@contextmanager
def running(
    command: Sequence[str], *, log: Path, ready_url: str, env: dict[str, str], timeout_s: float = PATIENT_S
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; enter the block when ``ready_url`` gives any HTTP answer."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=env, preexec_fn=die_with_parent
        )
    try:
        _await_answer(process, ready_url, log, timeout_s)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_answer(process: subprocess.Popen[bytes], url: str, log: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def minio_client(server: S3Server) -> Minio:
    """An independent S3 client: what we wrote must be readable without us."""
    return Minio(
        server.endpoint.removeprefix("http://"),
        access_key=server.access_key_id,
        secret_key=server.secret_access_key,
        secure=False,
        region=server.region,
    )


def await_bucket(server: S3Server, timeout_s: float = PATIENT_S) -> None:
    """Return when the server, which may create it late, shows the bucket."""
    client = minio_client(server)
    deadline = time.monotonic() + timeout_s
    while not client.bucket_exists(server.bucket):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} has no bucket {server.bucket}")
        time.sleep(0.05)
