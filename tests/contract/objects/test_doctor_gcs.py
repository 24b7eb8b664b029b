"""Mistakes with a bucket of Google's, seeded one at a time: each is named with its remedy, and nothing else is."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.objects.conftest import gcs_config_of
from tests.contract.objects.seeded_mistakes import ENDPOINTS
from tests.contract.objects.test_s3_advice import Answer, Liar, serving
from tests.servers.gcs.asking import key_file
from tests.servers.gcs.bucket import Wish
from tests.servers.gcs.conditions import Conditions
from tests.servers.gcs.serving import GcsServer
from tests.servers.iam import POLICIES
from tiering.doctor.gcs import examine
from tiering.doctor.wanted import Wanted
from tiering.keys import CLUSTER_MARKER, cluster_marker
from tiering.objects.classes import StorageClass
from tiering.objects.findings import Finding
from tiering.objects.gcs.config import GcsConfig

PREFIX = "team/tier"
GRANTED = [
    permission
    for name in ("gcs-broker.yaml", "gcs-doctor.yaml")
    for permission in yaml.safe_load((POLICIES / name).read_text())["includedPermissions"]
]


class AllBut(set[str]):
    """Whatever is not granted; what needs no permission goes."""

    def __init__(self, granted: Iterable[str]) -> None:
        self._granted = {"", *granted}

    def __contains__(self, permission: object) -> bool:
        return permission not in self._granted


@dataclass
class World:
    """A bucket of its own, with what the roles grant, and a server beside it that answers all alike."""

    server: GcsServer
    liar: Liar
    directory: Path
    config: GcsConfig
    wanted: Wanted = field(default_factory=Wanted)
    ahead_ms: int = 0

    def change(self, **policy: Any) -> None:
        self.server.state.buckets[self.config.bucket].change(policy)

    def put(self, key: str, body: bytes) -> None:
        held = self.server.state.buckets[self.config.bucket]
        held.put(key, body, Wish(), Conditions(), self.server.state.now_ms())

    def grant(self, granted: Iterable[str]) -> None:
        self.server.state.denied = AllBut(granted)

    def lie(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.liar.answer = Answer(status, body, content_type)
        self.config = replace(self.config, endpoint=f"http://127.0.0.1:{self.liar.server_port}")

    def held(self) -> list[str]:
        found = self.server.state.buckets[self.config.bucket]
        return sorted([*found.live, *(each.name for each in (*found.noncurrent, *found.soft_deleted))])

    async def examined(self) -> list[Finding]:
        return await examine(self.config, self.wanted, time.time_ns() // 1_000_000 + self.ahead_ms)


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    with serving() as server:
        yield server


@pytest.fixture
def world(
    gcs_server: GcsServer, liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    bucket = f"doctor-{uuid.uuid4().hex[:12]}"
    state = gcs_server.state
    state.make_bucket(bucket, softDeletePolicy={"retentionDurationSeconds": "0"})
    before = state.denied
    config = replace(gcs_config_of(gcs_server, PREFIX, bucket), part_retries=0, request_timeout_ms=20_000)
    world = World(gcs_server, liar, tmp_path, config)
    world.grant(GRANTED)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    yield world
    state.denied, state.tokens, state.ignores_conditions = before, None, False


def refused(reason: str, message: str) -> bytes:
    return (
        f'{{"error": {{"code": 403, "message": "{message}", "errors": [{{"reason": "{reason}"}}]}}}}'.encode()
    )


def anonymous(world: World) -> None:
    world.server.state.tokens = {"a-token"}


def refused_key(world: World) -> None:
    """The token service knows no such account."""
    world.server.state.tokens = set()
    world.config = replace(
        world.config, anonymous=False, key_file=str(key_file(world.directory, world.server))
    )


def no_key_file(world: World) -> None:
    world.config = replace(world.config, anonymous=False, key_file=str(world.directory / "absent.json"))


def skewed(world: World) -> None:
    world.ahead_ms = 5 * 60_000


def ignored_conditions(world: World) -> None:
    world.server.state.ignores_conditions = True


def ignored_checksums(world: World) -> None:
    world.server.state.buckets[world.config.bucket].compares_checksums = False


def around(world: World) -> None:
    world.put(CLUSTER_MARKER, cluster_marker("other"))


def below(world: World) -> None:
    world.put(f"{PREFIX}/inner/{CLUSTER_MARKER}", cluster_marker("other"))


def foreign(world: World) -> None:
    world.put(f"{PREFIX}/{CLUSTER_MARKER}", cluster_marker("another-cluster"))
    world.wanted = Wanted("this-cluster")


def without(permission: str) -> Callable[[World], None]:
    return lambda world: world.grant(set(GRANTED) - {permission})


def with_(permission: str) -> Callable[[World], None]:
    return lambda world: world.grant([*GRANTED, permission])


def changed(**policy: Any) -> Callable[[World], None]:
    return lambda world: world.change(**policy)


def lied(status: int, body: bytes, content_type: str = "application/json") -> Callable[[World], None]:
    return lambda world: world.lie(status, body, content_type)


DELETE = {"action": {"type": "Delete"}, "condition": {"age": 3, "matchesPrefix": ["team/"]}}
MOVE = {"action": {"type": "SetStorageClass", "storageClass": "ARCHIVE"}, "condition": {"age": 3}}
USER = "grant roles/storage.objectUser on the bucket"


# What is wrong, how it is made so, the check that names it, its level, and words of its remedy.
def no_bucket(world: World) -> None:
    world.config = replace(world.config, bucket="no-such-bucket")


MISTAKES: dict[str, tuple[Callable[[World], None], str, str, str]] = {
    **ENDPOINTS,
    "no such bucket": (no_bucket, "bucket", "error", "create it"),
    "no credentials": (anonymous, "credentials", "error", "take it out of the URL"),
    "refused key": (refused_key, "credentials", "error", "make a new key, and look at this machine's clock"),
    "no key file": (no_key_file, "credentials", "error", "correct key.file"),
    "not Google's": (lied(404, b"<html>nginx</html>", "text/html"), "endpoint", "error", "correct the endpoint"),
    "no billing": (lied(403, refused("accountDisabled", "x")), "project", "error", "enable it there"),
    "API switched off": (
        lied(403, refused("accessNotConfigured", "x")), "project", "error", "enable storage.googleapis.com",
    ),
    "clock five minutes off": (skewed, "clock", "warning", "set it by NTP"),
    "may not write": (without("storage.objects.create"), "permissions", "error", USER),
    "may not read": (without("storage.objects.get"), "permissions", "error", USER),
    "may not list": (without("storage.objects.list"), "permissions", "error", USER),
    "may not delete": (without("storage.objects.delete"), "permissions", "error", USER),
    "may change the bucket": (with_("storage.buckets.update"), "permissions", "warning", "in place of the role"),
    "may give it away": (with_("storage.buckets.setIamPolicy"), "permissions", "warning", "in place of the role"),
    "settings unseen": (without("storage.buckets.get"), "bucket", "warning", "gcs-doctor.yaml"),
    "versions kept": (changed(versioning={"enabled": True}), "versioning", "warning", "daysSinceNoncurrentTime"),
    "soft delete": (
        changed(softDeletePolicy={"retentionDurationSeconds": "604800"}),
        "soft delete", "warning", "--clear-soft-delete",
    ),
    "retention policy": (
        changed(retentionPolicy={"retentionPeriod": "86400"}), "retention policy", "error", "take a bucket without",
    ),
    "holds": (changed(defaultEventBasedHold=True), "retention policy", "error", "event-based hold off"),
    "a rule deletes": (changed(lifecycle={"rule": [DELETE]}), "lifecycle", "error", "limit the rule 1"),
    "a rule moves": (changed(lifecycle={"rule": [MOVE]}), "lifecycle", "warning", "set tierlog.tiers instead"),
    "autoclass": (changed(autoclass={"enabled": True}), "autoclass", "warning", "switch it off"),
    "conditions ignored": (ignored_conditions, "conditional writes", "error", "use a server that honours"),
    "checksums ignored": (ignored_checksums, "checksums", "warning", "use a server that compares"),
    "a cluster around": (around, "neighbours", "warning", "give each cluster a prefix"),
    "a cluster below": (below, "neighbours", "warning", "give each cluster a prefix"),
    "another's bucket": (foreign, "cluster", "error", "name the bucket and prefix of this cluster"),
}  # fmt: skip
STAYS = {"may not delete", "versions kept", "soft delete", "retention policy", "holds", "no such bucket"}
"""Where the probe cannot be removed, or the bucket keeps all; or there is no bucket."""


@pytest.mark.parametrize("name", MISTAKES)
async def test_each_mistake_is_named_and_nothing_else(world: World, name: str) -> None:
    seed, check, level, remedy = MISTAKES[name]
    seed(world)
    before = [] if name in STAYS else world.held()
    found = [each for each in await world.examined() if each.level != "ok"]
    assert [(each.check, each.level) for each in found] == [(check, level)], found
    assert remedy in found[0].remedy, found[0]
    assert "\n" not in found[0].line and len(found[0].line) < 400
    if name not in STAYS:
        assert world.held() == before


async def test_nothing_is_wrong_and_nothing_stays(world: World) -> None:
    world.put(f"{PREFIX}/{CLUSTER_MARKER}", cluster_marker("this-cluster"))
    world.wanted = Wanted("this-cluster", [StorageClass.STANDARD, StorageClass.COLD])
    before = world.held()
    found = await world.examined()
    assert [each for each in found if each.level != "ok"] == []
    assert {
        "bucket",
        "clock",
        "permissions",
        "conditional writes",
        "checksums",
        "classes",
        "soft delete",
    } <= {each.check for each in found}
    assert world.held() == before


async def test_several_mistakes_at_once(world: World) -> None:
    skewed(world)
    world.change(versioning={"enabled": True}, lifecycle={"rule": [DELETE]})
    without("storage.objects.delete")(world)
    found = [each.check for each in await world.examined() if each.level != "ok"]
    assert found == ["clock", "permissions", "lifecycle", "versioning"]
