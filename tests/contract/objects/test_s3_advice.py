"""What is wrong with an object store is said in one line with what to do: a server on the loopback answers wrongly."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.contract.objects.certificates import make_certificate
from tiering.errors import AccessDenied, Misconfigured, NotFound, ObjectStoreError, Timeout, Unavailable
from tiering.objects.s3.advice import missing_credentials
from tiering.objects.s3.config import S3Config
from tiering.objects.s3.store import S3ObjectStore

Kind = type[ObjectStoreError]


@dataclass
class Answer:
    status: int
    body: bytes
    content_type: str = "application/xml"


class Liar(ThreadingHTTPServer):
    """Answers every request alike."""

    daemon_threads = True
    answer = Answer(200, b"")

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken handshakes are what is tried here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Liar

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        answer = self.server.answer
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


def xml(code: str, more: str = "") -> bytes:
    return f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>m</Message>{more}</Error>'.encode()


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Liar]:
    server = Liar(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def tls_liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    directory = tmp_path_factory.mktemp("tls")
    key, certificate = directory / "key.pem", directory / "cert.pem"
    make_certificate(key, certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as server:
        yield server


def config_of(endpoint: str, **changes: object) -> S3Config:
    config = S3Config(
        "bkt", "p", "us-east-1", endpoint, path_style=True, access_key_id="KEYID", secret_access_key="hunter2",
        request_timeout_ms=2_000, connect_timeout_ms=1_000,
    )  # fmt: skip
    return replace(config, **changes)  # type: ignore[arg-type]


async def pieces() -> AsyncIterator[bytes]:
    yield bytes(9 << 20)


async def refusal(config: S3Config, verb: str) -> ObjectStoreError:
    with pytest.raises(ObjectStoreError) as caught:
        store = S3ObjectStore(config)
        match verb:
            case "get":
                await store.get("a/b")
            case "range":
                await store.get_range("a/b", 0, 1)
            case "put":
                await store.put("a/b", b"x", size_bytes=1, if_absent=True)
            case "upload":
                await store.put("a/b", pieces(), size_bytes=9 << 20)
            case "head":
                await store.head("a/b")
            case "list":
                await store.list("a/")
            case _:
                await store.delete(["a/b"])
    said = str(caught.value)
    assert "\n" not in said and len(said) < 400
    assert "hunter2" not in said and "KEYID" not in said
    assert "<" not in said and "Debug source" not in said
    return caught.value


VERBS = ["get", "range", "put", "list", "delete"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, xml("NoSuchBucket"), Misconfigured, ["no bucket bkt at http://127.0.0.1", "create it"]),
        (301, xml("PermanentRedirect"), Misconfigured, ["not in us-east-1", "region=REGION"]),
        (400, xml("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"), Misconfigured, ["region=eu-west-1"]),
        (403, xml("InvalidAccessKeyId"), AccessDenied, ["access key id is not known", "AWS_ACCESS_KEY_ID"]),
        (403, xml("SignatureDoesNotMatch"), AccessDenied, ["AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID"]),
        (400, xml("ExpiredToken"), AccessDenied, ["token has expired", "renew"]),
        (400, xml("InvalidToken"), AccessDenied, ["AWS_SESSION_TOKEN"]),
        (403, xml("RequestTimeTooSkewed"), AccessDenied, ["clock", "NTP"]),
        (403, xml("AccessDenied"), AccessDenied, ["may not do s3:", "bucket bkt", "policy"]),
        (404, b"<html>nginx</html>", Misconfigured, ["does not speak S3", "HTTP 404", "endpoint"]),
        (405, b'{"error": "method"}', Misconfigured, ["does not speak S3"]),
        (400, b"Client sent an HTTP request to an HTTPS server.", Misconfigured, ["TLS only", "endpoint=https://127"]),
        (501, xml("NotImplemented"), Misconfigured, ["cannot do", "use another"]),
        (400, xml("InvalidRequest"), ObjectStoreError, ["HTTP 400 InvalidRequest: m"]),
        (500, xml("InternalError"), Unavailable, ["HTTP 500 InternalError"]),
    ],
)  # fmt: skip
async def test_answers(liar: Liar, verb: str, status: int, body: bytes, kind: Kind, words: list[str]) -> None:
    liar.answer = Answer(status, body)
    error = await refusal(config_of(f"http://127.0.0.1:{liar.server_port}"), verb)
    assert type(error) is kind, error
    for word in words:
        assert word in str(error)


@pytest.mark.parametrize(
    ("verb", "action"),
    [
        ("get", "s3:GetObject"),
        ("head", "s3:GetObject"),
        ("put", "s3:PutObject"),
        ("upload", "s3:PutObject"),
        ("list", "s3:ListBucket"),
        ("delete", "s3:DeleteObject"),
    ],
)
async def test_a_missing_permission_is_named(liar: Liar, verb: str, action: str) -> None:
    liar.answer = Answer(403, xml("AccessDenied"))
    error = await refusal(config_of(f"http://127.0.0.1:{liar.server_port}"), verb)
    assert isinstance(error, AccessDenied) and action in str(error)


async def test_what_is_missing_is_no_mistake(liar: Liar) -> None:
    liar.answer = Answer(404, xml("NoSuchKey"))
    for verb in ("get", "range", "head"):
        assert type(await refusal(config_of(f"http://127.0.0.1:{liar.server_port}"), verb)) is NotFound


async def test_a_page_instead_of_an_object(liar: Liar) -> None:
    liar.answer = Answer(200, b"<html>welcome</html>", "text/html")
    for verb in ("put", "delete"):
        error = await refusal(config_of(f"http://127.0.0.1:{liar.server_port}"), verb)
        assert isinstance(error, Misconfigured) and "does not speak S3" in str(error)


@pytest.mark.parametrize("verb", ["get", "put"])
async def test_tls_and_none(liar: Liar, tls_liar: Liar, verb: str) -> None:
    liar.answer = tls_liar.answer = Answer(404, xml("NoSuchKey"))
    error = await refusal(config_of(f"https://127.0.0.1:{liar.server_port}"), verb)
    assert isinstance(error, Misconfigured)
    assert f"speaks no TLS; write endpoint=http://127.0.0.1:{liar.server_port}" in str(error)
    error = await refusal(config_of(f"http://127.0.0.1:{tls_liar.server_port}"), verb)
    assert f"write endpoint=https://127.0.0.1:{tls_liar.server_port}" in str(error)
    error = await refusal(config_of(f"https://localhost:{tls_liar.server_port}"), verb)
    assert isinstance(error, AccessDenied)
    assert "certificate" in str(error) and "no authority that this machine trusts" in str(error)


async def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
        error = await refusal(config_of(f"http://127.0.0.1:{closed}"), "get")
        assert isinstance(error, Unavailable) and f"nothing listens at http://127.0.0.1:{closed}" in str(
            error
        )
    error = await refusal(config_of("http://no-such-host.invalid:9000"), "get")
    assert isinstance(error, Unavailable) and "the name no-such-host.invalid is not known" in str(error)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        error = await refusal(config_of(f"http://127.0.0.1:{port}", request_timeout_ms=200), "get")
        assert isinstance(error, Timeout) and "did not answer in time" in str(error)


def test_missing_credentials() -> None:
    bare = config_of("", access_key_id="", secret_access_key="")
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(missing_credentials(bare, {}))
    half = str(missing_credentials(bare, {"AWS_ACCESS_KEY_ID": "a"}))
    assert half == "no credentials: AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not; set both"
    half = str(missing_credentials(bare, {"AWS_SECRET_ACCESS_KEY": "a"}))
    assert half == "no credentials: AWS_SECRET_ACCESS_KEY is set, AWS_ACCESS_KEY_ID is not; set both"
    assert missing_credentials(bare, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}) is None
    assert missing_credentials(bare, {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}) is None
    assert missing_credentials(replace(bare, profile="p"), {}) is None


async def test_half_of_the_credentials() -> None:
    for given in ({"access_key_id": "KEYID"}, {"secret_access_key": "hunter2"}):
        config = config_of("http://127.0.0.1:1", **{"access_key_id": "", "secret_access_key": "", **given})
        error = await refusal(config, "get")
        assert isinstance(error, Misconfigured) and "set both" in str(error)
