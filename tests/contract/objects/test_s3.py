"""What only S3 can show: errors of real servers, an independent reader, uploads that must not linger."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

import pytest
from crc32c import crc32c

from tests.contract.objects.broken_uploads import give_up_uploads
from tests.contract.objects.conftest import S3_BACKENDS, config_of
from tests.servers.fault_proxy import FaultProxy, Mode
from tests.servers.ports import free_ports
from tests.servers.processes import S3Server, minio_client
from tiering.doctor.s3 import examine
from tiering.doctor.wanted import Wanted
from tiering.errors import (
    AccessDenied,
    Misconfigured,
    ObjectStoreError,
    PreconditionFailed,
    Timeout,
    Unavailable,
)
from tiering.ledger.rows import Cause
from tiering.metering.attribution import attributed
from tiering.objects.classes import StorageClass
from tiering.objects.findings import Finding
from tiering.objects.measured import StoreStats
from tiering.objects.opening import open_store
from tiering.objects.port import PutOptions
from tiering.objects.s3.config import S3Config
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
        assert (status.size, status.etag) == (info.size_bytes, info.version.strip('"'))
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
    await give_up_uploads(store)
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
    levels = {finding.check: finding.level for finding in await examine(wrong, Wanted(), _now_ms())}
    assert levels["credentials"] == "error"


async def test_no_such_bucket(server: S3Server, prefix: str) -> None:
    wrong = config_of(server, prefix, bucket="no-such-bucket")
    # SeaweedFS looks at the condition before it looks for the bucket.
    await _all_raise(S3ObjectStore(wrong), Misconfigured, PreconditionFailed)
    (finding,) = await examine(wrong, Wanted(), _now_ms())
    assert finding == Finding(
        "bucket",
        "error",
        f"there is no bucket no-such-bucket at {wrong.place}",
        "create it, or correct the bucket's name or the endpoint",
    )


async def test_nobody_listens(prefix: str) -> None:
    (port,) = free_ports(1)
    dead = S3Server("dead", f"http://127.0.0.1:{port}", "id", "secret", "us-east-1", "bucket")
    config = replace(config_of(dead, prefix), part_retries=0)
    await _all_raise(S3ObjectStore(config), Unavailable)
    (finding,) = await examine(config, Wanted(), _now_ms())
    assert (finding.check, finding.level) == ("endpoint", "error")


async def test_a_server_that_never_answers_times_out(prefix: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)  # The kernel completes connections; nobody ever reads from them.
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        server = S3Server("silent", endpoint, "id", "secret", "us-east-1", "bucket")
        config = replace(config_of(server, prefix), part_retries=0, request_timeout_ms=50)
        await _all_raise(S3ObjectStore(config), Timeout)


async def test_the_doctor_of_a_good_bucket(server: S3Server, config: S3Config) -> None:
    findings = await examine(config, Wanted(), _now_ms())
    assert [finding for finding in findings if finding.level == "error"] == []
    checks = {finding.check: finding.level for finding in findings}
    assert checks["bucket"] == checks["clock"] == checks["conditional writes"] == "ok"
    assert await S3ObjectStore(config).list("") == []


async def test_leftovers_are_found_and_aborted(server: S3Server, config: S3Config) -> None:
    client = minio_client(server)
    for number in range(3):
        client._create_multipart_upload(server.bucket, config.full_key(f"left-{number}"), {})
    client._create_multipart_upload(server.bucket, f"{config.prefix}-foreign/left", {})
    later_ms = _now_ms() + 48 * 3_600_000
    findings = [each for each in await examine(config, Wanted(), later_ms) if each.check == "leftovers"]
    assert [each.level for each in findings] == ["warning"]
    assert "3 unfinished" in findings[0].message
    store = S3ObjectStore(config)
    found = await store.list_uploads("")
    assert sorted(each.key for each in found) == ["left-0", "left-1", "left-2"]
    if server.name != "moto":  # It says 2010 of each.
        assert all(abs(each.begun_ms - _now_ms()) < 3_600_000 for each in found)
    assert await store.list_uploads("left/") == []
    for each in (*found, found[0]):  # Twice is no error.
        await store.abort_upload(each)
    assert await store.list_uploads("") == []
    assert uploads(server, config.prefix) == []
    assert uploads(server, f"{config.prefix}-foreign") == [f"{config.prefix}-foreign/left"]
    await store.close()


@pytest.mark.parametrize("size_bytes", [100, 6 * MIB])
async def test_a_class_is_changed_in_place_and_the_bytes_stay(
    server: S3Server, config: S3Config, size_bytes: int
) -> None:
    store = S3ObjectStore(config)
    data = bytes(range(250)) * (size_bytes // 250 + 1)
    options = PutOptions(StorageClass.INFREQUENT, crc32c(data))
    written = await store.put("k", data, size_bytes=len(data), options=options)
    assert class_in(server, config, "k") == "STANDARD_IA"
    assert (await store.head("k", complete=True)).storage_class == StorageClass.INFREQUENT
    moved = await store.copy("k", "k", version=written.version, storage_class=StorageClass.ARCHIVE_INSTANT)
    assert class_in(server, config, "k") == "GLACIER_IR"
    assert (moved.size_bytes, moved.version) == (len(data), (await store.head("k")).version)
    assert bytes(await store.get_range("k", 0, len(data))) == data
    await store.close()


async def test_a_copy_counts_as_the_requests_that_it_makes(server: S3Server, config: S3Config) -> None:
    secrets = {"access.key.id": server.access_key_id, "secret.access.key": server.secret_access_key}
    stats = StoreStats()
    with FaultProxy(server.endpoint) as proxy:
        url = f"s3://{server.bucket}/{config.prefix}?endpoint={proxy.endpoint}"
        store = open_store(url, secrets, stats=stats)
        made = await store.put("k", b"bytes", size_bytes=5)
        before = len(proxy.seen)
        await store.copy("k", "k", version=made.version, storage_class=StorageClass.INFREQUENT)
        assert stats["copy"].requests == len(proxy.seen) - before == 2
        list(stats.accounts.drain(str))
        for mode, failed in ((Mode.BUSY, 1), (Mode.UNANSWERED, 1)):
            proxy.fail(mode, "PUT", limit=1)
            found = await store.head("k")
            with attributed(Cause.CLASS_MOVE):
                await store.copy("k", "k", version=found.version, storage_class=StorageClass.COLD)
            rows = list(stats.accounts.drain(str))
            assert {
                (row.operation, row.storage_class, row.requests, row.failed)
                for row in rows
                if row.cause != "other"
            } == {
                ("copy", "cold", 2, failed),
                ("head", "cold", 1, 0),
            }, "what the control process repeats by itself counts too"
        await store.close()


async def test_what_the_control_process_says_of_mistakes(server: S3Server, config: S3Config) -> None:
    """Its errors are those of the byte path; and when it is killed, the next request starts another one."""
    absent = S3ObjectStore(replace(config, bucket="no-such-bucket"))
    foreign = S3ObjectStore(replace(config, endpoint="http://127.0.0.1:9", part_retries=0))
    store = S3ObjectStore(config)
    with pytest.raises(Misconfigured, match="no-such-bucket"):
        await absent.list_uploads("")
    with pytest.raises((Unavailable, Timeout)):
        await foreign.list_uploads("")
    assert await store.list_uploads("") == []
    session = store._control._session
    assert session is not None and session._process is not None
    session._process.kill()
    await session.ended()
    assert await store.list_uploads("") == []
    for each in (absent, foreign, store):
        await each.close()


def class_in(server: S3Server, config: S3Config, key: str) -> str:
    found = minio_client(server).list_objects(server.bucket, prefix=config.full_key(key), recursive=True)
    return next(str(each.storage_class) for each in found)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
