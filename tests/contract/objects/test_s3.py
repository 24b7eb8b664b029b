"""What only S3 can show: errors of real servers, an independent reader, uploads that must not linger."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.contract.objects.conftest import S3_BACKENDS, config_of
from tests.servers.ports import free_ports
from tests.servers.processes import S3Server, minio_client
from tiering.errors import (
    AccessDenied,
    Misconfigured,
    ObjectStoreError,
    PreconditionFailed,
    Timeout,
    Unavailable,
)
from tiering.objects.port import Buffer
from tiering.objects.s3.config import S3Config
from tiering.objects.s3.findings import Finding
from tiering.objects.s3.preflight import abort_leftovers, preflight
from tiering.objects.s3.store import S3ObjectStore

MIB = 1024 * 1024


@pytest.fixture(params=S3_BACKENDS)
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def config(server: S3Server, prefix: str) -> S3Config:
    return config_of(server, prefix)


def uploads(server: S3Server, prefix: str) -> list[str]:
    found = minio_client(server)._list_multipart_uploads(server.bucket, prefix=prefix + "/").uploads
    return [str(upload.object_name) for upload in found]


async def test_the_minio_sdk_reads_what_we_wrote(server: S3Server, config: S3Config) -> None:
    store = S3ObjectStore(config)
    small, large = b"small" * 100, bytes(range(256)) * (12 * MIB // 256)
    await store.put("one/small", small, size_bytes=len(small))
    await store.put("one/large", large, size_bytes=len(large))
    client = minio_client(server)
    for key, data in (("one/small", small), ("one/large", large)):
        answer = client.get_object(server.bucket, config.full_key(key))
        assert answer.read() == data
        answer.close()
        answer.release_conn()
        info = await store.head(key)
        status = client.stat_object(server.bucket, config.full_key(key))
        assert (status.size, status.etag) == (info.size_bytes, info.etag.strip('"'))
    answer = client.get_object(server.bucket, config.full_key("one/large"), offset=5 * MIB - 3, length=6)
    assert answer.read() == large[5 * MIB - 3 : 5 * MIB + 3]
    answer.close()
    answer.release_conn()
    listed = client.list_objects(server.bucket, prefix=config.prefix + "/", recursive=True)
    assert [each.object_name for each in listed] == [
        config.full_key("one/large"),
        config.full_key("one/small"),
    ]


async def test_prefixes_part_stores_of_one_bucket(server: S3Server, prefix: str) -> None:
    one, two = (S3ObjectStore(config_of(server, f"{prefix}/{name}")) for name in ("a", "ab"))
    await one.put("k", b"1", size_bytes=1)
    await two.put("k", b"22", size_bytes=2)
    assert [info.key for info in await one.list("")] == ["k"]
    assert bytes((await two.get("k"))[1]) == b"22"
    await one.delete(["k"])
    assert [info.size_bytes for info in await two.list("")] == [2]


async def test_a_cancelled_or_failed_upload_is_aborted(server: S3Server, config: S3Config) -> None:
    store = S3ObjectStore(config)
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[Buffer]:
        for _ in range(13):
            yield bytes(MIB)
        reached.set()
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    async def failing() -> AsyncIterator[Buffer]:
        for _ in range(13):
            yield bytes(MIB)
        raise OSError("the source broke")

    put = asyncio.ensure_future(store.put("cancelled", endless(), size_bytes=100 * MIB))
    await reached.wait()
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    with pytest.raises(OSError, match="the source broke"):
        await store.put("failed", failing(), size_bytes=100 * MIB)
    assert uploads(server, config.prefix) == []
    assert await store.list("") == []


async def _all_raise(
    store: S3ObjectStore, kind: type[ObjectStoreError], *others: type[ObjectStoreError]
) -> None:
    """Every verb fails as ``kind``; a conditional replace may also fail as one of ``others``."""
    calls = [
        (kind, store.put("k", b"x", size_bytes=1)),
        (kind, store.put("k", bytes(6 * MIB), size_bytes=6 * MIB)),
        (kind, store.put("k", b"x", size_bytes=1, if_absent=True)),
        ((kind, *others), store.put_if_match("k", b"x", "etag")),
        (kind, store.get("k")),
        (kind, store.get_range("k", 0, 1)),
        (kind, store.list("")),
        (kind, store.delete(["k"])),
    ]
    for expected, call in calls:
        with pytest.raises(expected) as caught:
            await call  # type: ignore[misc]
        assert "secret" not in str(caught.value)
    await store.close()


async def test_wrong_credentials(seaweedfs_server: S3Server, prefix: str) -> None:
    config = config_of(seaweedfs_server, prefix)
    for wrong in (replace(config, secret_access_key="secret"), replace(config, access_key_id="nobody")):
        await _all_raise(S3ObjectStore(wrong), AccessDenied)
    levels = {finding.check: finding.level for finding in await preflight(wrong, _now_ms())}
    assert levels["credentials"] == "error"


async def test_no_such_bucket(server: S3Server, prefix: str) -> None:
    wrong = config_of(server, prefix, bucket="no-such-bucket")
    # SeaweedFS looks at the condition before it looks for the bucket.
    await _all_raise(S3ObjectStore(wrong), Misconfigured, PreconditionFailed)
    (finding,) = await preflight(wrong, _now_ms())
    assert finding == Finding("bucket", "error", "there is no bucket no-such-bucket")


async def test_nobody_listens(prefix: str) -> None:
    (port,) = free_ports(1)
    dead = S3Server("dead", f"http://127.0.0.1:{port}", "id", "secret", "us-east-1", "bucket")
    config = replace(config_of(dead, prefix), part_retries=0)
    await _all_raise(S3ObjectStore(config), Unavailable)
    (finding,) = await preflight(config, _now_ms())
    assert (finding.check, finding.level) == ("bucket", "error")


async def test_a_server_that_never_answers_times_out(prefix: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)  # The kernel completes connections; nobody ever reads from them.
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        server = S3Server("silent", endpoint, "id", "secret", "us-east-1", "bucket")
        config = replace(config_of(server, prefix), part_retries=0, request_timeout_ms=50)
        await _all_raise(S3ObjectStore(config), Timeout)


async def test_preflight_of_a_good_bucket(server: S3Server, config: S3Config) -> None:
    findings = await preflight(config, _now_ms())
    assert [finding for finding in findings if finding.level == "error"] == []
    checks = {finding.check: finding.level for finding in findings}
    assert checks["credentials"] == checks["bucket"] == checks["clock"] == "ok"
    assert checks["if-none-match"] == checks["if-match"] == "ok"
    assert await S3ObjectStore(config).list("") == []


async def test_preflight_sees_a_wrong_clock(config: S3Config) -> None:
    for skew, level in ((timedelta(minutes=5), "warning"), (timedelta(hours=1), "error")):
        findings = await preflight(config, _now_ms() + int(skew.total_seconds() * 1_000))
        assert [each.level for each in findings if each.check == "clock"] == [level]


async def test_preflight_sees_rules_and_versions(moto_server: S3Server, prefix: str) -> None:
    from tiering.objects.s3.preflight import opened

    bucket = f"rules-{prefix}"
    config = config_of(moto_server, "tier", bucket=bucket)
    rule = {"ID": "clean", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 3}}
    async with opened(config) as client:
        await client.create_bucket(Bucket=bucket)
        await client.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": [rule]}
        )
        await client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    levels = {finding.check: finding.level for finding in await preflight(config, _now_ms())}
    assert (levels["lifecycle"], levels["versioning"]) == ("error", "warning")


async def test_leftovers_are_found_and_aborted(server: S3Server, config: S3Config) -> None:
    client = minio_client(server)
    for number in range(3):
        client._create_multipart_upload(server.bucket, config.full_key(f"left-{number}"), {})
    client._create_multipart_upload(server.bucket, f"{config.prefix}-foreign/left", {})
    later_ms = _now_ms() + 48 * 3_600_000
    findings = [each for each in await preflight(config, later_ms) if each.check == "multipart leftovers"]
    assert [each.level for each in findings] == ["warning"]
    assert "3 unfinished" in findings[0].message
    assert await abort_leftovers(config, begun_before_ms=0) == 0
    assert await abort_leftovers(config, begun_before_ms=later_ms) == 3
    assert uploads(server, config.prefix) == []
    assert uploads(server, f"{config.prefix}-foreign") == [f"{config.prefix}-foreign/left"]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
