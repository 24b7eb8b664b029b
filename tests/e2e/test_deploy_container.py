"""``deploy/container``: the image's steps make a broker that runs as no one special on a read-only root."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.servers.container_root import CONTAINERFILE, Image, build, in_network_of, running, why_impossible
from tests.servers.containerfile import is_in_context, stages
from tests.servers.raw_client import RawClient, one_batch
from tierlog.config.properties import load

ROOT = Path(__file__).resolve().parents[2]
IGNORED = (ROOT / ".containerignore").read_text()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    reason = why_impossible()
    if reason is not None:
        pytest.skip(f"THE CONTAINER IMAGE IS NOT TRIED: {reason}")
    yield build(tmp_path_factory.mktemp("container"))


def await_healthy(image: Image, process: subprocess.Popen[bytes], name: str) -> None:
    deadline_s = time.monotonic() + PATIENT_S
    while (check := image.health(process)).returncode:
        assert process.poll() is None and time.monotonic() < deadline_s, image.log(name).read_text() + str(
            check
        )
        time.sleep(0.1)


def test_a_broker_runs_in_it(image: Image) -> None:
    with running(image, "first", {}) as process:
        await_healthy(image, process, "first")
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(r"^Uid:\s+10001\s+10001\s+10001\s+10001$", status, re.MULTILINE)
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
        client = in_network_of(process, lambda: RawClient(9092))
        with client:
            client.create_topic("kept")
            client.produce("kept", one_batch(b"1", b"2"))
            assert client.values("kept") == [b"1", b"2"]
        process.send_signal(getattr(signal, image.stage.last("STOPSIGNAL").text))
        assert process.wait(PATIENT_S) == 0, image.log("first").read_text()
    with running(image, "first", {}) as process:
        await_healthy(image, process, "first")
        with in_network_of(process, lambda: RawClient(9092)) as client:
            assert client.values("kept") == [b"1", b"2"], "the volume keeps what was written"
        process.terminate()
        assert process.wait(PATIENT_S) == 0
    assert not list((image.built.layers[-1]).glob("src")), "no sources but those that are installed"


def test_who_is_not_ready_is_not_healthy(image: Image) -> None:
    """And is stopped cleanly in the midst of its start."""
    with running(image, "waiting", {"KAFKA_METADATA_STORE": "etcd://127.0.0.1:2379"}) as process:
        with in_network_of(process, lambda: socket.create_server(("127.0.0.1", 2379))) as silent:
            silent.settimeout(PATIENT_S)
            silent.accept()[0].close()
        check = image.health(process)
        assert check.returncode == 1 and "refused" in check.stderr
        process.terminate()
        assert process.wait(PATIENT_S) == 0, image.log("waiting").read_text()


def test_the_image_says_what_its_properties_say() -> None:
    _, image = stages(CONTAINERFILE.read_text())
    config = load(ROOT / "deploy/server.properties")
    (clients,), (http,) = config.listeners, config.tierlog_http_listeners
    assert image.last("EXPOSE").arguments == [str(clients.port), str(http.port)]
    assert f"http://127.0.0.1:{http.port}/readyz" in image.last("HEALTHCHECK").text
    assert {flag for flag, _ in image.last("HEALTHCHECK").flags} == {
        "interval",
        "timeout",
        "start-period",
        "retries",
    }
    volume = image.last("VOLUME").text
    places = [*config.log_dirs, config.metadata_store, config.tierlog_object_store]
    assert all(f"{volume}/" in place for place in places)
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", image.last("USER").text), "a number, and not root's"
    copied = [each.arguments for each in image.instructions if each.word == "COPY"]
    (source, target) = next(pair for pair in copied if pair[0].endswith(".properties"))
    assert source == "deploy/server.properties"
    assert image.last("CMD").arguments == ["broker", f"--config={target}"]


def test_a_build_sees_the_sources_and_nothing_else() -> None:
    """Docker reads the rules beside the Containerfile, Podman those at the root."""
    beside = CONTAINERFILE.with_name("Containerfile.dockerignore")
    assert beside.read_text() == IGNORED
    assert {each.name for each in ROOT.iterdir() if is_in_context(each.name, IGNORED)} == {
        "tierlog",
        "tiering",
        "pyproject.toml",
        "README.md",
    }
    inside = [str(each.relative_to(ROOT)) for each in (ROOT / "deploy").rglob("*") if each.is_file()]
    assert [path for path in inside if is_in_context(path, IGNORED)] == ["deploy/server.properties"]
    assert not is_in_context("tierlog/cli/__pycache__/app.pyc", IGNORED)
    assert not is_in_context(".git/config", IGNORED)
    assert not is_in_context("data/logs/meta.properties", IGNORED)
