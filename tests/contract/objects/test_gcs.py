"""What only Google Cloud Storage can show: errors of servers, a reader that is not ours, sessions that must not linger."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from crc32c import crc32c

from tests.contract.objects.broken_uploads import give_up_uploads
from tests.contract.objects.conftest import gcs_config_of
from tests.servers.gcs.asking import OBJECTS, TOKEN, ask, key_file
from tests.servers.gcs.serving import GcsServer, gcs
from tests.servers.ports import free_ports
from tiering.doctor.gcs import examine
from tiering.doctor.wanted import Wanted
from tiering.errors import (
    AccessDenied,
    ChecksumMismatch,
    Misconfigured,
    NotFound,
    ObjectStoreError,
    PreconditionFailed,
    Timeout,
    Unavailable,
)
from tiering.objects.classes import StorageClass
from tiering.objects.gcs.config import GcsConfig
from tiering.objects.gcs.store import GcsObjectStore
from tiering.objects.port import Buffer, Content, PutOptions
from tiering.objects.retrying import RetryingStore

MIB = 1024 * 1024


@pytest.fixture
def server() -> Iterator[GcsServer]:
    """A server of its own: these cases change its bucket and count its requests."""
    with gcs() as running:
        yield running


@pytest.fixture
async def store(server: GcsServer) -> AsyncIterator[GcsObjectStore]:
    store = GcsObjectStore(gcs_config_of(server, "some/where"))
    yield store
    await store.close()


def kinds(server: GcsServer) -> list[tuple[str, str]]:
    return [(row.kind.removeprefix("storage.objects."), row.api) for row in server.state.log.rows]


# -- what is written


async def test_what_we_wrote_is_read_without_us(server: GcsServer, store: GcsObjectStore) -> None:
    small, large = b"small" * 100, bytes(range(256)) * (12 * MIB // 256)
    for name, data in (("small", small), ("large", large)):
        info = await store.put(f"one/{name}", data, size_bytes=len(data))
        path = f"{OBJECTS}/some%2Fwhere%2Fone%2F{name}"
        row = ask(server, "GET", path).row
        assert (row["generation"], row["size"]) == (info.version, str(len(data)))
        assert info.crc32c == crc32c(data)
        assert ask(server, "GET", path, {"alt": "media"}).body == data
        assert await store.head(f"one/{name}") == info


async def test_each_verb_goes_its_way_once(server: GcsServer, store: GcsObjectStore) -> None:
    info = await store.put("k", b"hello", size_bytes=5)
    await store.get("k")
    await store.get_range("k", 1, 3)
    await store.head("k")
    await store.list("")
    await store.copy("k", "k", version=info.version, storage_class=StorageClass.COLD)
    await store.delete(["k"])
    assert kinds(server) == [
        *(("insert", "json"), ("get", "xml"), ("get", "xml"), ("get", "json")),
        *(("list", "json"), ("rewrite", "json"), ("delete", "xml")),
    ]
    billed = server.state.log.billed
    assert (billed["A"], billed["B"], billed["free"]) == (3, 3, 1)


async def test_an_upload_in_parts_is_billed_once(server: GcsServer, store: GcsObjectStore) -> None:
    await store.put("k", bytes(12 * MIB), size_bytes=12 * MIB)
    assert kinds(server) == [("insert", "json"), *[("upload.part", "json")] * 3]
    assert server.state.log.billed["A"] == 1
    assert [row.received_bytes for row in server.state.log.rows][1:] == [5 * MIB, 5 * MIB, 2 * MIB]


async def test_the_part_size_of_a_put_is_taken(server: GcsServer, store: GcsObjectStore) -> None:
    await store.put("k", bytes(3 * MIB), size_bytes=3 * MIB, options=PutOptions(part_bytes=MIB + 1))
    sizes = [row.received_bytes for row in server.state.log.rows][1:]
    assert sizes == [MIB + 256 * 1024, MIB + 256 * 1024, MIB // 2]


@pytest.mark.parametrize("size_bytes", [100, 6 * MIB])
async def test_a_class_is_changed_in_place_and_the_bytes_stay(
    server: GcsServer, store: GcsObjectStore, size_bytes: int
) -> None:
    data = bytes(range(250)) * (size_bytes // 250 + 1)
    options = PutOptions(StorageClass.INFREQUENT, crc32c(data))
    written = await store.put("k", data, size_bytes=len(data), options=options)
    live = server.holds().live
    assert live["some/where/k"].storage_class == "NEARLINE"
    moved = await store.copy("k", "k", version=written.version, storage_class=StorageClass.ARCHIVE_INSTANT)
    assert live["some/where/k"].storage_class == "ARCHIVE"
    assert moved.version != written.version
    assert (moved.size_bytes, moved.crc32c) == (len(data), written.crc32c)
    with pytest.raises(PreconditionFailed):
        await store.copy("k", "k", version=written.version, storage_class=StorageClass.COLD)
    assert bytes(await store.get_range("k", 0, len(data))) == data


async def test_a_copy_goes_on_until_google_is_done(server: GcsServer, store: GcsObjectStore) -> None:
    written = await store.put("k", bytes(MIB), size_bytes=MIB)
    server.state.rewrite_bytes_max = MIB // 3
    moved = await store.copy("k", "l", version=written.version, storage_class=StorageClass.COLD)
    assert (moved.size_bytes, moved.storage_class) == (MIB, StorageClass.COLD)
    assert server.state.log.kinds["storage.objects.rewrite"] == 4


async def test_the_standard_class_is_named_in_a_bucket_of_another(
    server: GcsServer, store: GcsObjectStore
) -> None:
    server.holds().change({"storageClass": "COLDLINE"})
    await store.put("k", b"x", size_bytes=1)
    assert (await store.head("k")).storage_class == StorageClass.STANDARD


@pytest.mark.parametrize("size_bytes", [10_000, 6 * MIB])
@pytest.mark.parametrize("is_known", [True, False])
async def test_bytes_that_change_on_the_way_are_refused_by_the_server(
    server: GcsServer, store: GcsObjectStore, size_bytes: int, is_known: bool
) -> None:
    data = bytes(size_bytes)
    options = PutOptions(crc32c=crc32c(data) if is_known else None)
    # Of the large one the part behind the request that opens the session.
    if size_bytes > MIB:
        content: Content = damaged_on_the_way(server, data)
    else:
        server.state.damages, content = 1, data
    with pytest.raises(ChecksumMismatch, match="doesn't match calculated CRC32C"):
        await store.put("k", content, size_bytes=size_bytes, options=options)
    assert server.state.damages == 0
    assert server.holds().live == {}
    await store.put("k", data, size_bytes=size_bytes, options=options)


async def damaged_on_the_way(server: GcsServer, data: bytes) -> AsyncIterator[Buffer]:
    server.state.damages = 1
    yield data


async def test_a_cancelled_or_failed_upload_leaves_no_session(
    server: GcsServer, store: GcsObjectStore
) -> None:
    await give_up_uploads(store)
    assert server.state.uploads.open == {}
    assert await store.list("") == []


class Forgetful:
    """A stream that can be read again; the first time the server forgets the upload in its middle."""

    def __init__(self, server: GcsServer, data: bytes) -> None:
        self.server = server
        self.data = data
        self.reads = 0

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        self.reads += 1
        yield self.data[: 6 * MIB]
        if self.reads == 1:
            self.server.state.uploads.open.clear()
        yield self.data[6 * MIB :]


async def test_a_session_that_google_forgot_is_begun_anew(server: GcsServer, store: GcsObjectStore) -> None:
    content = Forgetful(server, bytes(12 * MIB))
    with pytest.raises(Unavailable, match="has forgotten the upload"):
        await store.put("k", content, size_bytes=12 * MIB)
    content.reads = 0
    await RetryingStore(store).put("k", content, size_bytes=12 * MIB)
    assert content.reads == 2
    assert (await store.head("k")).size_bytes == 12 * MIB


async def test_an_upload_in_parts_under_a_condition(store: GcsObjectStore) -> None:
    data = bytes(12 * MIB)
    first = await store.put("k", data, size_bytes=len(data), if_absent=True)
    with pytest.raises(PreconditionFailed):
        await store.put("k", data, size_bytes=len(data), if_absent=True)
    second = await store.put_if_match("k", data + b"!", first.version)
    with pytest.raises(PreconditionFailed):
        await store.put_if_match("k", data, first.version)
    assert (await store.head("k")).version == second.version


async def test_lists_go_on_where_google_cuts_a_page_short(server: GcsServer, store: GcsObjectStore) -> None:
    names = [f"d/{number:04}" for number in range(30)] + ["d/0003+x", "d/0003/x"[:6] + "-y"]
    for name in names:
        await store.put(name, b"x", size_bytes=1)
    server.state.page_max = 7
    wanted = sorted(names)
    assert [info.key for info in await store.list("d/")] == wanted
    assert [info.key for info in await store.list("d/", limit=20)] == wanted[:20]
    assert [info.key for info in await store.list("d/", start_after="d/0003")] == wanted[4:]


# -- what the bucket keeps


async def test_what_is_held_is_named_and_all_others_go(server: GcsServer, store: GcsObjectStore) -> None:
    names = [f"d/{number:03}" for number in range(40)]
    for name in names:
        await store.put(name, b"x", size_bytes=1)
    held = f"{OBJECTS}/some%2Fwhere%2Fd%2F007"
    assert ask(server, "PATCH", held, None, {"temporaryHold": True}).status == 200
    refused = await store.delete([*names, "d/never"])
    assert list(refused) == [names[7]]
    assert isinstance(refused[names[7]], AccessDenied)
    assert "a hold in the bucket" in str(refused[names[7]])
    assert [info.key for info in await store.list("d/")] == [names[7]]
    server.holds().change({"retentionPolicy": {"retentionPeriod": "3600"}})
    await store.put("young", b"x", size_bytes=1)
    assert "a retention policy of the bucket" in str((await store.delete(["young"]))["young"])


async def test_whether_former_copies_stay(server: GcsServer, store: GcsObjectStore) -> None:
    bucket = server.holds()
    assert await store.keeps_old_versions() is None, "though soft delete keeps them for a week"
    bucket.change({"retentionPolicy": {"retentionPeriod": "3600"}})
    assert str(await store.keeps_old_versions()) == f"bucket {server.bucket} has a retention policy of 3600 s"
    bucket.change({"versioning": {"enabled": True}})
    assert str(await store.keeps_old_versions()) == f"versioning of bucket {server.bucket} is on"
    server.state.denied = {"storage.buckets.get"}
    assert "is not known without storage.buckets.get" in str(await store.keeps_old_versions())


# -- who may


async def all_raise(store: GcsObjectStore, kind: type[ObjectStoreError], words: str = "") -> None:
    """Every verb fails as ``kind``, in one line."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.put("k", b"x", size_bytes=1),
        lambda: store.put("k", bytes(6 * MIB), size_bytes=6 * MIB),
        lambda: store.put("k", b"x", size_bytes=1, if_absent=True),
        lambda: store.put_if_match("k", b"x", "1"),
        lambda: store.copy("k", "l", version="1", storage_class=StorageClass.STANDARD),
        lambda: store.get("k"),
        lambda: store.get_range("k", 0, 1),
        lambda: store.head("k"),
        lambda: store.list(""),
    ]
    for call in calls:
        with pytest.raises(kind) as caught:
            await call()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    refused = await store.delete(["k"])
    assert [type(error) for error in refused.values()] == [kind]
    assert words in str(refused["k"])
    await store.close()


async def test_a_service_account_is_asked_for_a_token_and_used(server: GcsServer, tmp_path: Path) -> None:
    server.state.tokens = {TOKEN}
    config = replace(gcs_config_of(server), anonymous=False, key_file=str(key_file(tmp_path, server)))
    store = GcsObjectStore(config)
    await store.put("k", b"hello", size_bytes=5)
    await store.put("large", bytes(6 * MIB), size_bytes=6 * MIB)
    assert bytes(await store.get_range("k", 1, 3)) == b"el"
    assert len(await store.list("")) == 2
    assert await store.delete(["k", "large"]) == {}
    await store.close()


async def test_the_environment_names_the_credentials(
    server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.state.tokens = {TOKEN}
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file(tmp_path, server)))
    store = GcsObjectStore(replace(gcs_config_of(server), anonymous=False))
    await store.put("k", b"hello", size_bytes=5)
    assert bytes((await store.get("k"))[1]) == b"hello"
    await store.close()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    await all_raise(
        GcsObjectStore(replace(gcs_config_of(server), anonymous=False)),
        AccessDenied,
        "the credentials cannot be read",
    )


async def test_credentials_that_are_not_accepted(server: GcsServer, tmp_path: Path) -> None:
    server.state.tokens = {"another"}
    await all_raise(
        GcsObjectStore(gcs_config_of(server)), AccessDenied, "wants credentials, and anonymous=true"
    )
    config = replace(gcs_config_of(server), anonymous=False, key_file=str(key_file(tmp_path, server)))
    given = GcsObjectStore(config)
    await given.list("")
    server.state.tokens = {"changed"}
    with pytest.raises(AccessDenied, match="does not accept these credentials"):
        await given.get("k")
    server.state.tokens = None  # and so it gives none
    await all_raise(
        GcsObjectStore(config), AccessDenied, "gives no token for these credentials (invalid_grant"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("{}", "is of type 'None'"),
        ('{"type": "gdch_service_account"}', "none of service_account"),
        ('{"type": "service_account"}', "is not complete"),
    ],
)
async def test_key_files_that_are_none(
    server: GcsServer, tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "key.json"
    if text is not None:
        path.write_text(text)
    store = GcsObjectStore(replace(gcs_config_of(server), anonymous=False, key_file=str(path)))
    with pytest.raises(Misconfigured, match=words):
        await store.head("k")
    with pytest.raises(Misconfigured, match=words):
        await store.get("k")
    await store.close()


@pytest.mark.parametrize("verb", ["create", "get", "list", "delete"])
async def test_a_missing_permission_is_named(server: GcsServer, store: GcsObjectStore, verb: str) -> None:
    await store.put("k", b"x", size_bytes=1)
    permission = f"storage.objects.{verb}"
    server.state.denied = {permission}
    if verb == "delete":
        error: Exception = (await store.delete(["k"]))["k"]
    else:
        calls = {
            "create": lambda: store.put("l", b"x", size_bytes=1),
            "get": lambda: store.get("k"),
            "list": lambda: store.list(""),
        }
        with pytest.raises(AccessDenied) as caught:
            await calls[verb]()
        error = caught.value
    assert isinstance(error, AccessDenied)
    assert f"may not do {permission} on the bucket" in str(error)
    assert "roles/storage.objectUser" in str(error)


# -- where nothing is


async def test_no_such_bucket(server: GcsServer) -> None:
    config = gcs_config_of(server, bucket="no-such-bucket")
    await all_raise(GcsObjectStore(config), Misconfigured, "there is no bucket no-such-bucket at http://127")
    (finding,) = await examine(config, Wanted(), time.time_ns() // 1_000_000)
    assert (finding.check, finding.level) == ("bucket", "error")
    assert "there is no bucket no-such-bucket" in finding.message


async def test_nobody_listens() -> None:
    (port,) = free_ports(1)
    config = GcsConfig("bucket", endpoint=f"http://127.0.0.1:{port}", anonymous=True, part_retries=0)
    await all_raise(GcsObjectStore(config), Unavailable, "nothing listens at")
    (finding,) = await examine(config, Wanted(), time.time_ns() // 1_000_000)
    assert (finding.check, finding.level) == ("endpoint", "error")


async def test_a_server_that_never_answers_times_out() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)  # The kernel completes connections; nobody ever reads from them.
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config = GcsConfig("bucket", endpoint=endpoint, anonymous=True, part_retries=0, request_timeout_ms=50)
        await all_raise(GcsObjectStore(config), Timeout, "did not answer in time")


async def test_what_is_missing_is_no_mistake(store: GcsObjectStore) -> None:
    with pytest.raises(NotFound):
        await store.head("k")
    with pytest.raises(NotFound):
        await store.get("k")
    with pytest.raises(NotFound):
        await store.get_range("k", 0, 1)
    assert await store.delete(["k"]) == {}


# -- the doctor


async def test_the_doctor_of_a_server_that_tells_no_permissions(fake_gcs_server: GcsServer) -> None:
    found = await examine(gcs_config_of(fake_gcs_server), Wanted(), time.time_ns() // 1_000_000)
    levels = {finding.check: finding.level for finding in found}
    assert (levels["permissions"], levels["conditional writes"]) == ("ok", "ok")
