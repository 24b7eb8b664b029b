"""Signed requests to S3, one by one: for uploads in parts, each request of which must be seen. Blocking; imported only where
something goes up in parts, which is the process that copies segments.

urllib3 retries nothing here. Credentials are those that were given, or what botocore finds in AWS's usual places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import urllib3
from botocore.auth import UNSIGNED_PAYLOAD, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tiering.errors import AccessDenied
from tiering.objects.port import Buffer
from tiering.objects.s3.advice import NO_CREDENTIALS
from tiering.objects.s3.config import S3Config
from tiering.objects.streams import Span

CONNECTIONS = 32
WRITE_BYTES = 1 << 20
"""urllib3 gives each write as much time as a connect, however long it is."""

_WORDS = {
    "TimeoutError": "kind: Timeout",
    "NameResolutionError": "dns error",
    "Connection refused": "ConnectionRefused",
    "Network is unreachable": "NetworkUnreachable",
    "No route to host": "HostUnreachable",
    "CERTIFICATE_VERIFY_FAILED": "InvalidCertificate(UnknownIssuer)",
    "WRONG_VERSION_NUMBER": "InvalidContentType",
}


class Answer(NamedTuple):
    """``request``: method and URL, for messages."""

    request: str
    status: int
    headers: urllib3.HTTPHeaderDict
    body: bytes


class _Signature(S3SigV4Auth):  # type: ignore[misc]
    """With the digest of a payload that botocore need not see."""

    def __init__(self, credentials: Any, region: str, digest: str) -> None:
        super().__init__(credentials, "s3", region)
        self._digest = digest

    def payload(self, request: AWSRequest) -> str:
        return self._digest


class SignedHttp:
    """One bucket's requests; many threads may use it."""

    def __init__(self, config: S3Config) -> None:
        self._config = config
        self._lock = Lock()
        self._credentials: Any = None
        self._pool = urllib3.PoolManager(maxsize=CONNECTIONS, retries=False)
        suffix = "amazonaws.com.cn" if config.region.startswith("cn-") else "amazonaws.com"
        endpoint = config.endpoint or f"https://s3.{config.region}.{suffix}"
        parts = urlsplit(endpoint)
        own_host = f"{parts.scheme}://{config.bucket}.{parts.netloc}{parts.path}"
        self._base = f"{endpoint.rstrip('/')}/{config.bucket}" if config.path_style else own_host.rstrip("/")

    def send(
        self,
        method: str,
        key: str,
        query: str,
        *,
        body: Buffer | Span = b"",
        headers: dict[str, str] | None = None,
        timeout_ms: int = 0,
    ) -> Answer:
        """Raises urllib3's errors, OSError, ``ReadFailed``, and ``AccessDenied`` where there are no credentials."""
        url = f"{self._base}/{quote(self._config.full_key(key), safe='/-_.~')}?{query}"
        digest = UNSIGNED_PAYLOAD if self._config.unsigned_payload else _digest(body)
        request = AWSRequest(method, url, headers=headers)
        _Signature(self._found_credentials(), self._config.region, digest).add_auth(request)
        connect_s, read_s = (
            self._config.connect_timeout_ms / 1_000,
            (timeout_ms or self._config.request_timeout_ms) / 1_000,
        )
        answer = self._pool.request(
            method,
            url,
            body=body if isinstance(body, Span) else _writes(body),  # type: ignore[arg-type]  # any buffers will do
            headers={**dict(request.headers.items()), "content-length": str(len(body))},
            timeout=urllib3.Timeout(connect=connect_s, read=read_s),
            redirect=False,
            retries=False,
        )
        return Answer(f"{method} {url}", answer.status, answer.headers, answer.data)

    def close(self) -> None:
        self._pool.clear()

    def _found_credentials(self) -> Any:
        with self._lock:
            if self._credentials is None:
                self._credentials = _credentials_of(self._config)
            return self._credentials.get_frozen_credentials()


def words_of(error: Exception) -> OSError:
    """The error in obstore's words, which ``errors`` and ``advice`` know."""
    text = f"{type(error).__name__}: {error}"
    return OSError(" ".join([*(word for sign, word in _WORDS.items() if sign in text), text]))


def words_of_refusal(answer: Answer) -> OSError:
    """As ``words_of``. A refusal in an answer that began well is the server's failure."""
    status = answer.status if answer.status >= 300 else 500
    body = answer.body.decode(errors="replace")
    return OSError(
        f"Error performing {answer.request} in 1s - Server returned non-2xx status code: {status}: {body}"
    )


def _writes(body: Buffer) -> Iterator[memoryview]:
    view = memoryview(body)
    for start in range(0, len(view), WRITE_BYTES):
        yield view[start : start + WRITE_BYTES]


def _digest(body: Buffer | Span) -> str:
    digest = hashlib.sha256()
    for piece in body if isinstance(body, Span) else (body,):
        digest.update(piece)
    return digest.hexdigest()


def _credentials_of(config: S3Config) -> Any:
    if config.access_key_id:
        return Credentials(config.access_key_id, config.secret_access_key, config.session_token or None)
    from botocore.session import Session

    found = Session(profile=config.profile or None).get_credentials()
    if found is None:
        raise AccessDenied(NO_CREDENTIALS)
    return found
