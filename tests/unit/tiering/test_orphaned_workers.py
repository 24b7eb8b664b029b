"""Worker processes whose broker was killed: they end without a word, also with an answer on their lips."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from tests.servers.ports import free_ports
from tiering.manifest_worker import frame
from tiering.objects.s3.config import S3Config


def control_request() -> bytes:
    nowhere = S3Config(
        "b", endpoint=f"http://127.0.0.1:{free_ports(1)[0]}", access_key_id="a", secret_access_key="b"
    )
    request = {"number": 1, "verb": "list_uploads", "prefix": ""}
    return (json.dumps(asdict(nowhere)) + "\n" + json.dumps(request) + "\n").encode()


@pytest.mark.parametrize(
    ("module", "request_bytes"),
    [
        ("tiering.objects.s3.control_process", control_request()),
        ("tiering.manifest_worker", frame({"op": "none"}, b"")),
    ],
    ids=["control process", "manifest worker"],
)
def test_a_worker_whose_broker_was_killed_ends_without_a_word(module: str, request_bytes: bytes) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with worker:
        assert worker.stdout is not None and worker.stderr is not None
        worker.stdout.close()
        _, told = worker.communicate(request_bytes, timeout=60)
    assert (worker.returncode, told.decode()) == (0, "")
