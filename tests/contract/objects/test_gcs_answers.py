"""What Google's service, or what stands between, answers on bad days: the kind of error, and one line with what to do."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.objects.certificates import make_certificate
from tests.contract.objects.conftest import gcs_config_of
from tests.contract.objects.test_s3_advice import Answer, Liar, serving
from tests.servers.fault_proxy import FaultProxy, Mode
from tests.servers.gcs.serving import GcsServer
from tiering.errors import (
    AccessDenied,
    InvalidRange,
    Misconfigured,
    ObjectStoreError,
    PreconditionFailed,
    Throttled,
    Timeout,
    Unavailable,
)
from tiering.objects.classes import StorageClass
from tiering.objects.gcs.advice import NO_CREDENTIALS, file_of_gcloud, missing_credentials
from tiering.objects.gcs.config import GcsConfig
from tiering.objects.gcs.lifecycle import settings_findings
from tiering.objects.gcs.store import GcsObjectStore
from tiering.objects.retrying import RetryingStore, RetryPolicy

Kind = type[ObjectStoreError]
READS = ("get", "range", "delete")  # in XML
OTHERS = ("put", "upload", "copy", "head", "list")  # in JSON


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    with serving() as server:
        yield server


def said(status: int, reason: str, words: str, code: str = "") -> dict[str, Answer]:
    """Google's refusal as each of its APIs says it."""
    row = {"message": words, "domain": "global", "reason": reason}
    body = json.dumps({"error": {"code": status, "message": words, "errors": [row]}}).encode()
    details = f"<Details>{words}</Details>"
    xml = f"<?xml version='1.0'?><Error><Code>{code or reason}</Code><Message>m</Message>{details}</Error>"
    return {
        "json": Answer(status, body, "application/json"),
        "xml": Answer(status, xml.encode(), "application/xml"),
    }


def same(status: int, body: bytes) -> dict[str, Answer]:
    """What does not come from Google says the same to all."""
    return dict.fromkeys(("json", "xml"), Answer(status, body, "text/html"))


def config_of(endpoint: str) -> GcsConfig:
    return GcsConfig(
        "bkt", "p", endpoint, anonymous=True, request_timeout_ms=2_000, connect_timeout_ms=1_000, part_retries=0
    )  # fmt: skip


async def refusal(config: GcsConfig, verb: str) -> ObjectStoreError:
    (error,) = (await refusals(config, verb)).values()
    return error


async def refusals(config: GcsConfig, *verbs: str) -> dict[str, ObjectStoreError]:
    """The error of each verb; every one is a line that an operator can read."""
    store = GcsObjectStore(config)
    try:
        found = {verb: await _refused(store, verb) for verb in verbs}
    finally:
        await store.close()
    for error in found.values():
        text = str(error)
        assert "\n" not in text and len(text) < 450
        assert "<" not in text and "Debug source" not in text
    return found


async def _refused(store: GcsObjectStore, verb: str) -> ObjectStoreError:
    if verb == "delete":
        return (await store.delete(["a/b"]))["a/b"]
    with pytest.raises(ObjectStoreError) as caught:
        match verb:
            case "get":
                await store.get("a/b")
            case "range":
                await store.get_range("a/b", 0, 10)
            case "put":
                await store.put("a/b", b"x", size_bytes=1, if_absent=True)
            case "upload":
                await store.put("a/b", bytes(9 << 20), size_bytes=9 << 20)
            case "copy":
                await store.copy("a/b", "c", version="1", storage_class=StorageClass.COLD)
            case "head":
                await store.head("a/b")
            case _:
                await store.list("a/")
    return caught.value


WHO = "tierlog@x.iam.gserviceaccount.com does not have storage.objects.get access to the Google Cloud Storage object."
REFUSALS = [
    (said(404, "notFound", "The specified bucket does not exist.", "NoSuchBucket"), Misconfigured, "no bucket bkt at"),
    (said(403, "forbidden", WHO, "AccessDenied"), AccessDenied, "may not do storage.objects.get on the bucket bkt"),
    (said(403, "forbidden", "Access denied."), AccessDenied, "refuses access to the bucket bkt"),
    (said(403, "accountDisabled", "The billing account is disabled"), AccessDenied, "billing is disabled"),
    (said(400, "required", "Bucket is requester pays bucket"), Misconfigured, "has its requesters pay"),
    (said(400, "invalid", "Unknown project id: x"), Misconfigured, "quota_project_id"),
    (said(400, "invalid", "Invalid storage class"), Misconfigured, "Google's are STANDARD, NEARLINE"),
    (said(400, "invalid", "Cannot insert legacy ACL when uniform bucket-level access is on"), Misconfigured, "ACLs"),
    (said(403, "retentionPolicyNotMet", "Object is kept"), AccessDenied, "a retention policy of the bucket"),
    (said(412, "conditionNotMet", "did not hold", "PreconditionFailed"), PreconditionFailed, "did not hold"),
    (said(429, "rateLimitExceeded", "slow down", "TooManyRequests"), Throttled, "HTTP 429"),
    (said(503, "backendError", "try later", "ServiceUnavailable"), Throttled, "HTTP 503"),
    (said(500, "internalError", "oops", "InternalError"), Unavailable, "HTTP 500"),
    (said(504, "gatewayTimeout", "late"), Timeout, "HTTP 504"),
    (said(400, "invalid", "something new"), ObjectStoreError, "something new"),
    (said(416, "requestedRangeNotSatisfiable", "no", "InvalidRange"), InvalidRange, "HTTP 416"),
    (same(404, b"<html>nginx</html>"), Misconfigured, "does not speak Cloud Storage"),
    (same(403, b"<html>a proxy says no</html>"), Misconfigured, "does not speak Cloud Storage"),
    (same(502, b"<html>bad gateway</html>"), Unavailable, "502"),
    (same(400, b"Client sent an HTTP request to an HTTPS server."), Misconfigured, "TLS only; write endpoint=https://127"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSALS)))
async def test_refusals_of_every_verb(liar: Liar, number: int) -> None:
    answers, kind, words = REFUSALS[number]
    found: dict[str, ObjectStoreError] = {}
    for api, verbs in (("xml", READS), ("json", OTHERS)):
        liar.answer = answers[api]
        found |= await refusals(config_of(f"http://127.0.0.1:{liar.server_port}"), *verbs)
    for verb, error in found.items():
        assert type(error) is kind, (verb, error)
        assert words in str(error), verb
        assert error.key in ("a/b", "a/")


@pytest.mark.parametrize("verb", ["put", "list", "get"])
async def test_a_page_instead_of_an_answer(liar: Liar, verb: str) -> None:
    liar.answer = Answer(200, b"<html>welcome</html>", "text/html")
    error = await refusal(config_of(f"http://127.0.0.1:{liar.server_port}"), verb)
    assert isinstance(error, Misconfigured) and "does not speak Cloud Storage" in str(error)


@pytest.fixture(scope="module")
def tls_liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    directory = tmp_path_factory.mktemp("tls")
    key, certificate = directory / "key.pem", directory / "cert.pem"
    make_certificate(key, certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as server:
        yield server


@pytest.mark.parametrize("verb", ["get", "put"])
async def test_tls_and_none(liar: Liar, tls_liar: Liar, verb: str) -> None:
    liar.answer = tls_liar.answer = Answer(404, b"")
    error = await refusal(config_of(f"https://127.0.0.1:{liar.server_port}"), verb)
    assert isinstance(error, Misconfigured)
    assert f"speaks no TLS; write endpoint=http://127.0.0.1:{liar.server_port}" in str(error)
    error = await refusal(config_of(f"https://localhost:{tls_liar.server_port}"), verb)
    assert isinstance(error, AccessDenied) and "the TLS certificate of https://localhost" in str(error)


@pytest.mark.parametrize("verb", ["get", "put"])
async def test_nobody_there(verb: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
        error = await refusal(config_of(f"http://127.0.0.1:{closed}"), verb)
        assert isinstance(error, Unavailable) and f"nothing listens at http://127.0.0.1:{closed}" in str(
            error
        )
    error = await refusal(config_of("http://no-such-host.invalid:9000"), verb)
    assert isinstance(error, Unavailable) and "the name no-such-host.invalid is not known" in str(error)


def test_missing_credentials() -> None:
    bare = GcsConfig("bkt")
    named = {"GOOGLE_APPLICATION_CREDENTIALS": "/k"}
    assert missing_credentials(bare, {}, has_gcloud=False) == NO_CREDENTIALS
    assert missing_credentials(bare, {}, has_gcloud=True) is None
    assert missing_credentials(bare, named, has_gcloud=False) is None
    assert missing_credentials(replace(bare, key_file="/k"), {}, has_gcloud=False) is None
    assert missing_credentials(replace(bare, anonymous=True), {}, has_gcloud=False) is None
    name = "application_default_credentials.json"
    assert file_of_gcloud({}, Path("/home/me")) == Path("/home/me/.config/gcloud") / name
    assert file_of_gcloud({"CLOUDSDK_CONFIG": "/x"}, Path("/home/me")) == Path("/x") / name


# -- connections that break under an upload


@pytest.fixture
def proxied(gcs_server: GcsServer, prefix: str) -> Iterator[tuple[FaultProxy, GcsConfig]]:
    with FaultProxy(gcs_server.endpoint) as proxy:
        config = gcs_config_of(gcs_server, prefix)
        yield proxy, replace(config, endpoint=proxy.endpoint)


QUICK = RetryPolicy(first_pause_s=0.001, pause_max_s=0.002)
LARGE = bytes(range(256)) * (12 << 12)


async def once(data: bytes) -> AsyncIterator[bytes]:
    """A stream that nobody can read again: what is lost must be sent again from the part."""
    for start in range(0, len(data), 1 << 20):
        yield data[start : start + (1 << 20)]


@pytest.mark.parametrize(("fault", "count"), [("busy", 2), ("cut", 3), ("hang", 1)])
async def test_a_part_is_sent_again(proxied: tuple[FaultProxy, GcsConfig], fault: str, count: int) -> None:
    proxy, config = proxied
    patient = GcsObjectStore(config)
    store = GcsObjectStore(replace(config, request_timeout_ms=1_000)) if fault == "hang" else patient
    proxy.fail({"busy": Mode.BUSY, "cut": Mode.CUT, "hang": Mode.HANG}[fault], "PUT", limit=count)
    info = await store.put("k", once(LARGE), size_bytes=len(LARGE))
    proxy.heal()
    assert bytes((await patient.get("k"))[1]) == LARGE
    assert (await patient.head("k")) == info
    await store.close()
    await patient.close()


async def test_parts_are_not_sent_again_for_ever(proxied: tuple[FaultProxy, GcsConfig]) -> None:
    proxy, config = proxied
    store = GcsObjectStore(replace(config, part_retries=1))
    proxy.fail(Mode.BUSY, "PUT")
    with pytest.raises(Throttled):
        await store.put("k", once(LARGE), size_bytes=len(LARGE))
    assert len([request for request in proxy.seen if request.method == "PUT"]) == 2
    proxy.heal()
    assert await store.list("") == []
    await store.close()


async def test_a_conditional_write_whose_answer_was_lost_is_made_once(
    proxied: tuple[FaultProxy, GcsConfig],
) -> None:
    proxy, config = proxied
    store = RetryingStore(GcsObjectStore(config), QUICK)
    proxy.fail(Mode.CUT, "POST", limit=1)
    info = await store.put("k", b"mine", size_bytes=4, if_absent=True)
    assert store.retry_count == 1
    proxy.fail(Mode.CUT, "POST", limit=1)
    again = await store.put_if_match("k", b"next", info.version)
    proxy.fail(Mode.CUT, "POST", limit=1)
    moved = await store.copy("k", "k", version=again.version, storage_class=StorageClass.COLD)
    assert (store.retry_count, moved.storage_class) == (3, StorageClass.COLD)
    assert bytes((await store.get("k"))[1]) == b"next"
    with pytest.raises(PreconditionFailed):
        await store.put("k", b"other", size_bytes=5, if_absent=True)
    await store.close()


async def test_neither_client_retries_by_itself(proxied: tuple[FaultProxy, GcsConfig]) -> None:
    proxy, config = proxied
    store = GcsObjectStore(config)
    await store.put("k", b"x", size_bytes=1)
    await store.get("k")
    proxy.fail(Mode.BUSY)
    for verb in ("get", "range", "delete", "put", "copy", "head", "list"):
        before = len(proxy.seen)
        assert isinstance(await _refused(store, verb), Throttled)
        assert len(proxy.seen) == before + 1, verb
    await store.close()


async def test_slow_answers_hold_up_nobody_else(proxied: tuple[FaultProxy, GcsConfig]) -> None:
    """The threads of the store are as many as it has calls under way: the others wait, and the loop does not."""
    proxy, config = proxied
    store = GcsObjectStore(config)
    proxy.fail(Mode.SLOW, "POST", delay_s=0.2)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.005)
            turns += 1

    turning = asyncio.ensure_future(turn())
    await asyncio.gather(*(store.put(f"k/{number}", b"x", size_bytes=1) for number in range(25)))
    turning.cancel()
    assert turns > 20
    assert len(await store.list("k/")) == 25
    await store.close()


def test_a_process_does_not_wait_for_a_server_that_hangs() -> None:
    """It has 30 s to answer: the process is over long before."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        config = GcsConfig("bkt", endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", anonymous=True)
        script = (
            "import asyncio\n"
            "from tiering.objects.gcs.config import GcsConfig\n"
            "from tiering.objects.gcs.store import GcsObjectStore\n"
            "async def main():\n"
            f"    store = GcsObjectStore({config!r})\n"
            "    call = asyncio.ensure_future(store.head('k'))\n"
            "    await asyncio.sleep(0.5)\n"
            "    call.cancel()\n"
            "    await store.close()\n"
            "asyncio.run(main())\n"
            "import time; print(time.time())"
        )
        found = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script], check=True, capture_output=True, text=True
        )
        assert time.time() - float(found.stdout) < 20


# -- settings of buckets


@pytest.mark.parametrize(
    ("action", "condition", "levels"),
    [
        ("Delete", {"age": 3}, ["error"]),
        ("Delete", {"age": 3, "matchesPrefix": ["logs/"]}, ["ok"]),
        ("Delete", {"age": 3, "matchesPrefix": ["tier/a"]}, ["error"]),
        ("Delete", {"age": 3, "matchesPrefix": ["ti"]}, ["error"]),
        ("Delete", {"age": 3, "matchesSuffix": [".log"]}, ["ok"]),
        ("Delete", {"age": 3, "matchesSuffix": [".seg"]}, ["error"]),
        ("Delete", {"age": 3, "isLive": False}, ["ok"]),
        ("Delete", {"numNewerVersions": 2}, ["ok"]),
        ("Delete", {"daysSinceCustomTime": 2}, ["ok"]),
        ("SetStorageClass", {"age": 3}, ["warning"]),
        ("AbortIncompleteMultipartUpload", {"age": 3}, ["ok"]),
    ],
)
def test_lifecycle_rules(action: str, condition: dict[str, object], levels: list[str]) -> None:
    rule = {"action": {"type": action, "storageClass": "COLDLINE"}, "condition": condition}
    found = settings_findings({"lifecycle": {"rule": [rule]}}, "tier/")
    assert [each.level for each in found if each.check == "lifecycle"] == levels
