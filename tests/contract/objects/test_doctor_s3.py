"""Mistakes with a bucket of S3, seeded one at a time: each is named with its remedy, and nothing else is."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.contract.objects.seeded_mistakes import ENDPOINTS
from tests.servers.iam import boto_client, statements
from tests.servers.processes import S3Server
from tests.servers.s3_front import Asked, Front, Told, action_of, front, refusal
from tiering.doctor.s3 import examine
from tiering.doctor.wanted import Wanted
from tiering.keys import CLUSTER_MARKER, cluster_marker
from tiering.objects.classes import StorageClass
from tiering.objects.findings import Finding
from tiering.objects.s3.config import S3Config

PREFIX = "team/tier"
BROKER, DOCTOR = "s3-broker.json", "s3-doctor.json"
DAY_MS = 86_400_000
# boto3 warns of what is to come in Python.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@dataclass
class World:
    """A bucket of its own behind a front that allows what the policies do."""

    front: Front
    client: Any
    bucket: str
    config: S3Config
    wanted: Wanted = field(default_factory=Wanted)
    ahead_ms: int = 0

    def put(self, key: str, body: bytes = b"") -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def allow(self, *, without: str = "") -> None:
        self.front.rules.policy = [
            each for name in (BROKER, DOCTOR) for each in statements(name, self.bucket, PREFIX, without)
        ]

    def lie(self, status: int, code: str, more: str = "", *, of: str = "") -> None:
        """Answers every request so, or those of one action."""

        def told(asked: Asked) -> Told | None:
            return refusal(status, code, more) if not of or action_of(asked) == of else None

        self.front.rules.lies = told

    async def examined(self) -> list[Finding]:
        now_ms = time.time_ns() // 1_000_000 + self.ahead_ms
        return await examine(self.config, self.wanted, now_ms)

    def held(self) -> list[str]:
        """What is in the bucket, uploads and versions included."""
        objects = self.client.list_object_versions(Bucket=self.bucket)
        uploads = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        rows = [*objects.get("Versions", []), *objects.get("DeleteMarkers", []), *uploads]
        return sorted(each["Key"] for each in rows)


@pytest.fixture(scope="module")
def running(moto_server: S3Server) -> Iterator[tuple[Front, Any]]:
    client = boto_client("s3", moto_server)
    with front(moto_server.endpoint) as server:
        yield server, client


@pytest.fixture
def world(running: tuple[Front, Any]) -> Iterator[World]:
    server, client = running
    bucket = f"doctor-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    config = S3Config(
        bucket,
        PREFIX,
        endpoint=server.endpoint,
        path_style=True,
        access_key_id="KEYID",
        secret_access_key="hunter2",
        request_timeout_ms=20_000,
        part_retries=0,
    )
    world = World(server, client, bucket, config)
    server.rules.__init__()  # type: ignore[misc]
    world.allow()
    yield world
    server.rules.__init__()  # type: ignore[misc]


def lifecycle(world: World, **rule: Any) -> None:
    rule = {"ID": "clean", "Status": "Enabled", "Filter": {"Prefix": "team/"}, **rule}
    world.client.put_bucket_lifecycle_configuration(
        Bucket=world.bucket, LifecycleConfiguration={"Rules": [rule]}
    )


def no_credentials(world: World) -> None:
    world.config = replace(world.config, access_key_id="", secret_access_key="")


def no_profile(world: World) -> None:
    world.config = replace(world.config, access_key_id="", secret_access_key="", profile="absent")


def suspended(world: World) -> None:
    world.client.put_bucket_versioning(Bucket=world.bucket, VersioningConfiguration={"Status": "Suspended"})


def half_credentials(world: World) -> None:
    world.config = replace(world.config, secret_access_key="")


def not_s3(world: World) -> None:
    world.front.rules.lies = lambda asked: Told(404, b"<html>nginx</html>")


def skewed(world: World) -> None:
    world.ahead_ms = 5 * 60_000


def ignored_conditions(world: World) -> None:
    world.front.rules.drops = {"if-none-match", "if-match"}


def versioned(world: World) -> None:
    world.client.put_bucket_versioning(Bucket=world.bucket, VersioningConfiguration={"Status": "Enabled"})


def locked(world: World) -> None:
    """As AWS says it; moto would refuse what is only asked."""
    body = (
        "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
        "<Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
    )
    versioned(world)
    world.front.rules.lies = lambda asked: Told(200, body.encode()) if "object-lock" in asked.query else None


def around(world: World) -> None:
    world.put(f"team/{CLUSTER_MARKER}", cluster_marker("other"))


def below(world: World) -> None:
    world.put(f"{PREFIX}/backup/2026/{CLUSTER_MARKER}", cluster_marker("other"))


def foreign(world: World) -> None:
    world.put(f"{PREFIX}/{CLUSTER_MARKER}", cluster_marker("another-cluster"))
    world.wanted = Wanted("this-cluster")


def leftover(world: World) -> None:
    """moto says of each upload that it began in 2010."""
    world.client.create_multipart_upload(Bucket=world.bucket, Key=f"{PREFIX}/left")


def damaged(world: World) -> None:
    world.front.rules.compares_checksums = False


def no_class(world: World) -> None:
    world.wanted = Wanted(classes=[StorageClass.INFREQUENT])
    world.front.rules.lies = lambda asked: (
        refusal(400, "InvalidStorageClass") if asked.headers.get("x-amz-storage-class") else None
    )


def wide_policy(world: World) -> None:
    everything = [f"arn:aws:s3:::{world.bucket}", f"arn:aws:s3:::{world.bucket}/*"]
    world.front.rules.policy = [{"Action": ["s3:*"], "Resource": each} for each in everything]


def without(action: str) -> Callable[[World], None]:
    return lambda world: world.allow(without=action)


def lied(status: int, code: str, more: str = "", *, of: str = "") -> Callable[[World], None]:
    return lambda world: world.lie(status, code, more, of=of)


GLACIER = {"Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}


# What is wrong, how it is made so, the check that names it, its level, and words of its remedy.
def no_bucket(world: World) -> None:
    world.config = replace(world.config, bucket="no-such-bucket")
    world.front.rules.policy = None


MISTAKES: dict[str, tuple[Callable[[World], None], str, str, str]] = {
    **ENDPOINTS,
    "no such bucket": (no_bucket, "bucket", "error", "create it"),
    "no credentials": (no_credentials, "credentials", "error", "set AWS_ACCESS_KEY_ID and AWS_SECRET"),
    "half of them": (half_credentials, "credentials", "error", "set both"),
    "unknown profile": (no_profile, "credentials", "error", "correct profile in the URL"),
    "unknown key": (lied(403, "InvalidAccessKeyId"), "credentials", "error", "correct AWS_ACCESS_KEY_ID"),
    "wrong secret": (lied(403, "SignatureDoesNotMatch"), "credentials", "error", "correct one of them"),
    "expired token": (lied(400, "ExpiredToken"), "credentials", "error", "renew the credentials"),
    "not S3": (not_s3, "endpoint", "error", "correct the endpoint"),
    "wrong region": (
        lied(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
        "region",
        "error",
        "write region=eu-west-1",
    ),
    "clock refused": (lied(403, "RequestTimeTooSkewed"), "clock", "error", "set it by NTP"),
    "clock five minutes off": (skewed, "clock", "warning", "set it by NTP"),
    "may not write": (without("s3:PutObject"), "permissions", "error", "allow it in the policy"),
    "may not read": (without("s3:GetObject"), "permissions", "error", "allow it in the policy"),
    "may not list": (without("s3:ListBucket"), "permissions", "error", "allow it in the policy"),
    "may not delete": (without("s3:DeleteObject"), "permissions", "error", "allow it in the policy"),
    "may not abort": (without("s3:AbortMultipartUpload"), "permissions", "error", "allow it in the policy"),
    "may not see uploads": (without("s3:ListBucketMultipartUploads"), "permissions", "warning", "allow it in"),
    "policy too wide": (wide_policy, "permissions", "warning", f"limit their policy to {PREFIX}/*"),
    "rules unseen": (without("s3:GetLifecycleConfiguration"), "lifecycle", "warning", "s3-doctor.json"),
    "versions unseen": (without("s3:GetBucketVersioning"), "versioning", "warning", "s3-doctor.json"),
    "lock unseen": (
        without("s3:GetBucketObjectLockConfiguration"),
        "object lock",
        "warning",
        "allow s3:GetBucketObjectLockConfiguration",
    ),
    "versions kept": (versioned, "versioning", "warning", "NoncurrentVersionExpiration"),
    "versions kept from before": (suspended, "versioning", "warning", "a bucket that never had versions"),
    "object lock": (locked, "object lock", "error", "remove its default retention"),
    "a rule deletes": (lambda world: lifecycle(world, Expiration={"Days": 3}), "lifecycle", "error", "rule clean"),
    "a rule freezes": (lambda world: lifecycle(world, **GLACIER), "lifecycle", "error", "rule clean"),
    "conditions ignored": (ignored_conditions, "conditional writes", "error", "honours If-None-Match"),
    "conditions not served": (lied(501, "NotImplemented", of="s3:PutObject"), "server", "error", "another server"),
    "checksums ignored": (damaged, "checksums", "warning", "over https, or use a server that compares"),
    "a cluster around": (around, "neighbours", "warning", "give each cluster a prefix"),
    "a cluster below": (below, "neighbours", "warning", "give each cluster a prefix"),
    "another's bucket": (foreign, "cluster", "error", "name the bucket and prefix of this cluster"),
    "unfinished uploads": (leftover, "leftovers", "warning", "AbortIncompleteMultipartUpload"),
    "no such class": (no_class, "classes", "error", "take it out of tierlog.tiers"),
}  # fmt: skip
STAYS = {"may not delete", "may not abort", "versions kept", "versions kept from before", "object lock"}
"""Where the probe cannot be removed, or leaves a version of itself: the bucket keeps all."""


@pytest.fixture(autouse=True)
def no_credentials_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tiering.doctor.s3.ROLE_S", 0.5)


@pytest.mark.parametrize("name", MISTAKES)
async def test_each_mistake_is_named_and_nothing_else(world: World, name: str) -> None:
    seed, check, level, remedy = MISTAKES[name]
    seed(world)
    before = world.held()
    found = [each for each in await world.examined() if each.level != "ok"]
    assert [(each.check, each.level) for each in found] == [(check, level)], found
    assert remedy in found[0].remedy, found[0]
    assert "\n" not in found[0].line and "hunter2" not in found[0].line and len(found[0].line) < 400
    if name not in STAYS:
        assert world.held() == before


async def test_nothing_is_wrong_and_nothing_stays(world: World) -> None:
    world.put(f"{PREFIX}/{CLUSTER_MARKER}", cluster_marker("this-cluster"))
    world.put(f"{PREFIX}/0a1b/this-cluster/topic/0/x.seg")
    world.wanted = Wanted("this-cluster", [StorageClass.STANDARD, StorageClass.INFREQUENT])
    before = world.held()
    found = await world.examined()
    assert [each for each in found if each.level != "ok"] == []
    assert {each.check for each in found} == {
        *(
            "credentials",
            "bucket",
            "cluster",
            "neighbours",
            "clock",
            "object lock",
            "versioning",
            "lifecycle",
            "leftovers",
        ),
        *("conditional writes", "checksums", "classes", "permissions"),
    }
    assert world.held() == before


def test_the_seeds_are_of_many_kinds() -> None:
    assert len(MISTAKES) >= 20 and len({check for _, check, _, _ in MISTAKES.values()}) >= 12


async def test_several_mistakes_at_once(world: World) -> None:
    for seed in (versioned, around, skewed):
        seed(world)
    lifecycle(world, Expiration={"Days": 3})
    found = [each.check for each in await world.examined() if each.level != "ok"]
    assert found == ["neighbours", "clock", "versioning", "lifecycle"]
