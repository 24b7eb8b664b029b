"""From URLs and options to stores, and what a wrong one is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.gcs.serving import GcsServer
from tests.servers.processes import S3Server
from tiering.errors import Misconfigured, ObjectStoreError
from tiering.objects.faulty import Faults, FaultyStore
from tiering.objects.measured import StoreStats
from tiering.objects.opening import open_store, opens_elsewhere, parse_address, s3_config
from tiering.objects.s3.config import S3Config
from tiering.objects.s3.lifecycle import lifecycle_findings


@pytest.mark.parametrize("scheme", ["dir", "file"])
async def test_a_directory(scheme: str, tmp_path: Path) -> None:
    stats = StoreStats()
    store = open_store(f"{scheme}://{tmp_path}/sub/objects", {"get.delay.ms": "1"}, stats=stats)
    await store.put("a/b", b"x", size_bytes=1)
    assert bytes(await store.get_range("a/b", 0, 1)) == b"x"
    assert (tmp_path / "sub/objects/a/b").read_bytes() == b"x"
    assert (stats["put"].requests, stats["get_range"].received_bytes) == (1, 1)
    await store.close()


async def test_memory() -> None:
    store = open_store("memory://", {"upload.bytes.per.second": "1000000"})
    await store.put("k", b"x", size_bytes=1)
    assert (await store.head("k")).size_bytes == 1


async def test_s3(seaweedfs_server: S3Server, prefix: str) -> None:
    server = seaweedfs_server
    stats = StoreStats()
    store = open_store(
        f"s3://{server.bucket}/{prefix}/?region={server.region}&endpoint={server.endpoint}",
        {"access.key.id": server.access_key_id, "secret.access.key": server.secret_access_key},
        stats=stats,
    )
    data = bytes(20 * 1024 * 1024)
    await store.put("k", data, size_bytes=len(data))
    assert stats["put"].requests == 2 + 3
    assert [info.size_bytes for info in await store.list("")] == [len(data)]


@pytest.mark.parametrize(
    ("mib", "part_bytes", "requests"),
    [(8, 0, 1), (9, 0, 4), (64, 0, 6), (257, 0, 6), (1025, 0, 17), (257, 8, 35), (100_000, 5, 10_002)],
)
def test_what_a_put_is_billed_as(mib: int, part_bytes: int, requests: int) -> None:
    """Six requests for a segment of 256 MiB with its footer: create, four parts, complete."""
    config = S3Config("b", part_bytes=part_bytes * 1024 * 1024)
    assert config.put_requests(mib * 1024 * 1024) == requests


async def test_google(gcs_server: GcsServer, prefix: str) -> None:
    stats = StoreStats()
    url = f"gs://{gcs_server.bucket}/{prefix}/?endpoint={gcs_server.endpoint}/&anonymous=true"
    store = open_store(url, {"part.bytes": str(1024 * 1024)}, stats=stats)
    data = bytes(3 * 1024 * 1024)
    await store.put("k", data, size_bytes=len(data))
    assert stats["put"].requests == 4, "the begin of an upload in parts, and each part"
    assert [info.size_bytes for info in await store.list("")] == [len(data)]
    await store.close()


def test_google_without_its_libraries_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['google.cloud.storage'] = None\n"
        "from tiering.objects.opening import open_store\n"
        "try: open_store('gs://b')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.startswith("Misconfigured object store gs:")
    assert "pip install 'tierlog[gcs]'" in found.stdout


def test_s3_options() -> None:
    config = s3_config(
        parse_address("s3://bucket/a/b?region=eu-west-1&path.style=true", {"region": "eu-north-1"})
    )
    assert (config.bucket, config.prefix, config.region) == ("bucket", "a/b", "eu-north-1")
    assert config.path_style
    assert config.full_key("k") == "a/b/k"
    assert "hidden" not in repr(parse_address("s3://b", {"secret.access.key": "hidden"}))
    assert "hidden" not in repr(s3_config(parse_address("s3://b", {"secret.access.key": "hidden"})))


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("ftp://x", {}, "scheme must be one of"),
        ("objects", {}, "scheme must be one of"),
        ("dir://", {}, "names no directory"),
        ("s3://", {}, "names no bucket"),
        ("s3://b/..", {}, "key"),
        ("s3://b", {"regoin": "x"}, "'regoin'; did you mean 'region'"),
        ("dir:///x?durabel=true", {}, "did you mean 'durable'"),
        ("dir:///x", {"durable": "perhaps"}, "durable='perhaps'"),
        ("dir:///x", {"threads": "-1"}, "at least 0"),
        ("dir:///x", {"threads": "many"}, "threads='many'"),
        ("s3://b", {"part.bytes": "1024"}, "part.bytes: at least"),
        ("gs://", {}, "names no bucket"),
        ("gs://b", {"region": "x"}, "unknown option 'region'"),
        ("gs://b", {"part.bytes": "1000000"}, "part.bytes: a multiple of 262144"),
    ],
)
def test_mistakes_are_named(url: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(ObjectStoreError, match=words):
        open_store(url, options)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((Misconfigured, ObjectStoreError)):
        open_store(f"dir://{tmp_path}/file/objects")


def test_the_embedded_default_loads_no_cloud_library(tmp_path: Path) -> None:
    script = (
        "import sys; from tiering.objects.opening import open_store; "
        f"open_store('dir://{tmp_path}/objects'); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'obstore', 'aioboto3', 'boto3', 'botocore', 'aiobotocore', 'pyarrow', 'google', 'requests'}))"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("rule", "levels"),
    [
        ({"Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}, ["error"]),
        ({"Status": "Enabled", "Prefix": "tier/topics", "Expiration": {"Days": 1}}, ["error"]),
        ({"Status": "Enabled", "Filter": {"Prefix": "tier"}, "Expiration": {"Date": "x"}}, ["error"]),
        ({"Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}, []),
        ({"Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}}, []),
        ({"Status": "Enabled", "Filter": {"Tag": {"Key": "a"}}, "Expiration": {"Days": 1}}, []),
        ({"Status": "Enabled", "Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True}}, []),
        ({"Status": "Enabled", "Filter": {}, "AbortIncompleteMultipartUpload": {}}, []),
        ({"Status": "Enabled", "Filter": {}, "Transitions": [{"StorageClass": "STANDARD_IA"}]}, []),
        ({"Status": "Enabled", "Filter": {}, "Transitions": [{"StorageClass": "GLACIER"}]}, ["error"]),
    ],
)
def test_lifecycle_rules(rule: dict[str, object], levels: list[str]) -> None:
    assert [each.level for each in lifecycle_findings([rule], "tier/")] == levels


async def test_what_another_process_can_open(tmp_path: Path) -> None:
    """Not this process's memory, and nothing that a test has put around a store."""
    url = f"dir:{tmp_path}/objects?get.delay.ms=1&upload.bytes.per.second=1000"
    there, here = open_store(url), open_store("memory:")
    assert opens_elsewhere(url, there)
    assert not opens_elsewhere("memory:", here)
    assert not opens_elsewhere(url, FaultyStore(there, Faults(), seed=1))
    await there.close()
