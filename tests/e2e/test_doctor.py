"""``tierlog storage doctor`` and ``tierlog broker --check`` as people run them: a process each, without a broker."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_cli import Answer, tierlog
from tests.patience import PATIENT_S
from tests.servers.moto import moto
from tests.servers.parents import die_with_parent
from tests.servers.ports import free_ports
from tests.servers.processes import S3Server, minio_client
from tests.servers.tierlog import BrokerProcess
from tiering.keys import CLUSTER_MARKER, cluster_marker

KEYS = {"AWS_ACCESS_KEY_ID": "tierlog-test", "AWS_SECRET_ACCESS_KEY": "tierlog-test-secret"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with moto(tmp_path_factory.mktemp("moto")) as running:
        yield running


def doctor(*arguments: str, **env: str) -> Answer:
    return tierlog("storage", "doctor", *arguments, **{**KEYS, **env})


def properties(directory: Path, **more: str) -> Path:
    """A server.properties of a broker that was never started."""
    (port,) = free_ports(1)
    rows = {
        "node.id": "1",
        "listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": str(directory / "logs"),
        "metadata.store": f"sqlite:{directory / 'metadata.db'}",
        "remote.log.storage.system.enable": "true",
        **{name.replace("_", "."): value for name, value in more.items()},
    }
    path = directory / "server.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in rows.items()))
    return path


def named(answer: Answer) -> list[tuple[str, str]]:
    return [(row["check"], row["level"]) for row in answer.json["findings"] if row["level"] != "ok"]


def test_a_directory_is_well_and_nothing_stays(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    answer = doctor("--object-store", f"dir:{tmp_path / 'objects'}", "-o", "json")
    assert (answer.code, answer.err, named(answer), answer.json["level"]) == (0, "", [], "ok")
    assert list((tmp_path / "objects").iterdir()) == []


def test_warnings_are_exit_code_1(server: S3Server) -> None:
    """moto compares no checksums, and lets everybody do everything."""
    url = f"s3://{server.bucket}/tier?endpoint={server.endpoint}"
    answer = doctor("--object-store", url)
    assert (answer.code, answer.err) == (1, "")
    assert "deploy/policies/s3-broker.json" in answer.out and "over https" in answer.out
    assert "conditional writes" in answer.out and "tierlog-test-secret" not in answer.out
    assert list(minio_client(server).list_objects(server.bucket, prefix="tier/", recursive=True)) == []


def test_errors_are_exit_code_2(server: S3Server, tmp_path: Path) -> None:
    """The config names the store, the log directory the cluster, and the ladder the classes."""
    url = f"s3://{server.bucket}/taken?endpoint={server.endpoint}"
    marker = minio_client(server)
    data = cluster_marker("another-cluster")
    marker.put_object(server.bucket, f"taken/{CLUSTER_MARKER}", io.BytesIO(data), len(data))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/meta.properties").write_text("version=1\ncluster.id=this-cluster\nnode.id=1\n")
    path = properties(tmp_path, tierlog_object_store=url, tierlog_tiers="standard:1d,cold:9d")
    answer = doctor("--config", str(path), "-o", "json")
    assert answer.code == 2
    assert ("cluster", "error") in named(answer)
    (row,) = (each for each in answer.json["findings"] if each["check"] == "cluster")
    assert "another-cluster" in row["message"] and "this-cluster" in row["message"] and row["remedy"]
    assert {"check": "classes", "level": "ok", "message": "cold can be written", "remedy": ""} in answer.json[
        "findings"
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a store"),
        (("--object-store", "s4://bucket"), "expected dir: or s3: or gs:"),
        (("--config", "/absent.properties"), "/absent.properties"),
    ],
)
def test_what_cannot_be_looked_at(arguments: tuple[str, ...], said: str) -> None:
    answer = doctor(*arguments)
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1)
    assert said in answer.err


def test_a_broker_that_is_checked_does_not_start_on_mistakes(server: S3Server, tmp_path: Path) -> None:
    url = f"s3://no-such-bucket/tier?endpoint={server.endpoint}"
    path = properties(tmp_path, tierlog_object_store=url)
    answer = tierlog("broker", "--check", "--config", str(path), **KEYS)
    assert (answer.code, answer.out) == (1, "")
    first, last = answer.err.splitlines()
    assert "error: bucket: there is no bucket no-such-bucket" in first and "create it" in first
    assert "nothing was started" in last
    assert sorted(each.name for each in tmp_path.iterdir()) == ["server.properties"]


def test_a_broker_that_is_checked_starts(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    path = properties(
        tmp_path,
        tierlog_object_store=f"dir:{tmp_path / 'objects'}",
        tierlog_http_listeners=f"HTTP://127.0.0.1:{port}",
    )
    log = tmp_path / "broker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tierlog", "broker", "--check", "--config", str(path)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ),
            preexec_fn=die_with_parent,
        )
    broker = BrokerProcess(tmp_path)
    broker.http_port, broker.process, broker.log = port, process, log
    broker.await_ready()
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENT_S) == 0
    assert "error:" not in log.read_text()


@pytest.mark.parametrize(
    ("ladder", "said"),
    [
        ("standard:3d,glacier:9d", "there is no class glacier; there are standard, infrequent, cold"),
        ("infrequent:3d,standard:9d", "standard stands behind infrequent; the order is"),
        ("standard:9d,infrequent:3d", "infrequent must end later than standard"),
    ],
)
def test_a_ladder_that_is_none_changes_nothing(broker: BrokerProcess, ladder: str, said: str) -> None:
    at = broker.bootstrap
    topic = f"ladder-{time.monotonic_ns()}"
    assert tierlog("topic", "create", topic, "-c", "remote.storage.enable=true", bootstrap=at).code == 0
    refused = tierlog("topic", "alter", topic, "-c", f"tierlog.tiers={ladder}", bootstrap=at)
    assert (refused.code, len(refused.err.splitlines())) == (1, 1)
    assert said in refused.err
    (described,) = tierlog("topic", "describe", topic, "-o", "json", bootstrap=at).json
    assert set(described["configs"]) == {"remote.storage.enable"}
