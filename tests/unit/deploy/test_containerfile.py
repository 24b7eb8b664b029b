"""``deploy/container``: the image agrees with its properties, and a build sees what it needs."""

from __future__ import annotations

import re
from pathlib import Path

from tests.servers.container_root import CONTAINERFILE
from tests.servers.containerfile import is_in_context, stages
from tierlog.config.properties import load

ROOT = Path(__file__).resolve().parents[3]
IGNORED = (ROOT / ".containerignore").read_text()


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
