"""``deploy``: the container image's steps make a broker that runs as no one special on a read-only root; systemd itself runs
one by our units. Neither needs a container engine or a machine of its own.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.servers import container_root, real_systemd
from tests.servers.container_root import Image, build, in_network, running
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.real_systemd import RealSystemd

ROOT = Path(__file__).resolve().parents[2]
HARD_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    reason = container_root.why_impossible()
    if reason is not None:
        pytest.skip(f"THE CONTAINER IMAGE IS NOT TRIED: {reason}")
    yield build(tmp_path_factory.mktemp("container"))


def await_healthy(image: Image, process: subprocess.Popen[bytes], name: str) -> None:
    deadline_s = time.monotonic() + PATIENT_S
    while (check := image.health(process)).returncode:
        told = f"{check.stderr}\n{image.log(name).read_text()}"
        assert process.poll() is None and time.monotonic() < deadline_s, told
        time.sleep(0.3)


def test_a_broker_runs_in_it(image: Image) -> None:
    with running(image, "first", {}) as process:
        await_healthy(image, process, "first")
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(r"^Uid:\s+10001\s+10001\s+10001\s+10001$", status, re.MULTILINE)
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
        inside = Path(f"/proc/{process.pid}/root")
        assert {each.name for each in (inside / "opt").iterdir()} == {"tierlog"}
        assert not list((inside / "opt/tierlog/bin").glob("pip*")), (
            "nothing is installed into an image that runs"
        )
        with in_network(process.pid, lambda: RawClient(9092)) as client:
            client.create_topic("kept")
            client.produce("kept", one_batch(b"1", b"2"))
            assert client.values("kept") == [b"1", b"2"]
        process.send_signal(getattr(signal, image.stage.last("STOPSIGNAL").text))
        assert process.wait(PATIENT_S) == 0, image.log("first").read_text()


def test_who_is_not_ready_is_not_healthy(image: Image) -> None:
    """And is stopped cleanly in the midst of its start."""
    with running(image, "waiting", {"KAFKA_METADATA_STORE": "etcd://127.0.0.1:2379"}) as process:
        with in_network(process.pid, lambda: socket.create_server(("127.0.0.1", 2379))) as silent:
            silent.settimeout(PATIENT_S)
            silent.accept()[0].close()
        check = image.health(process)
        assert check.returncode == 1 and "refused" in check.stderr
        process.terminate()
        assert process.wait(PATIENT_S) == 0, image.log("waiting").read_text()


@pytest.fixture(scope="module")
def systemd(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSystemd]:
    reason = real_systemd.why_impossible()
    if reason is not None:
        pytest.skip(f"THE UNITS ARE NOT RUN BY SYSTEMD: {reason}")
    with RealSystemd(image, tmp_path_factory.mktemp("systemd")) as running:
        running.write("/etc/tierlog/server.properties", (ROOT / "deploy/server.properties").read_text())
        yield running


def is_ready(systemd: RealSystemd, http_port: int = 9464) -> bool:
    url = f"http://127.0.0.1:{http_port}/readyz"
    return (
        in_network(systemd.pid, lambda: urllib.request.urlopen(url, timeout=PATIENT_S).read()) == b"ready\n"
    )


def test_systemd_starts_and_stops_a_broker(systemd: RealSystemd) -> None:
    systemd.ctl("restart", "tierlog")
    assert is_ready(systemd), "the start is over when clients are served"
    pid = systemd.main_pid("tierlog")
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.search(r"^Uid:\s+10001\s", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
    files = re.search(
        r"^Max open files +(\d+) +(\d+) ", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE
    )
    # As many as the unit asks for, or as this machine may give.
    assert files is not None and files[1] == files[2] in ("1048576", str(HARD_LIMIT))
    with in_network(systemd.pid, lambda: RawClient(9092)) as client:
        client.create_topic("kept", **{"segment.bytes": "1048576", "remote.storage.enable": "true"})
        client.produce("kept", one_batch(b"1"))
        assert client.values("kept") == [b"1"]
    systemd.ctl("stop", "tierlog")
    assert (systemd.show("tierlog", "Result"), systemd.show("tierlog", "ExecMainStatus")) == ("success", "0")
    assert "broker stopped" in systemd.log()
    assert systemd.show("tierlog", "NRestarts") == "0"


def test_a_broker_that_hangs_is_started_again(systemd: RealSystemd) -> None:
    drop_in = "/run/systemd/system/tierlog.service.d/watchdog.conf"
    systemd.write(drop_in, "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n")
    systemd.ctl("daemon-reload")
    systemd.ctl("restart", "tierlog")
    with in_network(systemd.pid, lambda: RawClient(9092)) as client:
        client.create_topic("hung")
        client.produce("hung", one_batch(b"1"))
    pid = systemd.main_pid("tierlog")
    os.kill(pid, signal.SIGSTOP)
    deadline_s = time.monotonic() + PATIENT_S
    while systemd.show("tierlog", "NRestarts") == "0" or systemd.show("tierlog", "ActiveState") != "active":
        assert time.monotonic() < deadline_s, systemd.log()[-4000:]
        time.sleep(0.1)
    assert systemd.main_pid("tierlog") != pid
    assert is_ready(systemd)
    with in_network(systemd.pid, lambda: RawClient(9092)) as client:
        assert client.values("hung") == [b"1"]
    # What the watchdog sends first: where a loop hangs by itself, this says where.
    os.kill(systemd.main_pid("tierlog"), signal.SIGABRT)
    while "Fatal Python error: Aborted" not in systemd.log():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    systemd.ctl("stop", "tierlog")
    (systemd.root / drop_in.lstrip("/")).unlink()
    systemd.ctl("daemon-reload")


def test_two_brokers_in_one_service_of_several(systemd: RealSystemd) -> None:
    """tierlog@pair, beside which others may run, with ``--processes``."""
    text = (
        (ROOT / "deploy/server.properties").read_text().replace("/var/lib/tierlog/", "/var/lib/tierlog/pair/")
    )
    systemd.write("/etc/tierlog/pair.properties", text.replace("9092", "9292").replace("9464", "9664"))
    command = "/opt/tierlog/bin/tierlog broker --config=/etc/tierlog/%i.properties"
    two = f"[Service]\nExecStart=\nExecStart={command} --processes=2\n"
    systemd.write("/run/systemd/system/tierlog@pair.service.d/two.conf", two)
    systemd.ctl("daemon-reload")
    systemd.ctl("start", "tierlog@pair")
    assert is_ready(systemd, 9664) and is_ready(systemd, 9665)
    assert (systemd.root / "var/lib/tierlog/pair/logs").is_dir()
    systemd.ctl("stop", "tierlog@pair")
    assert systemd.show("tierlog@pair", "Result") == "success"
