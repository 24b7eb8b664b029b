"""Both clients of one bucket, on one set of credentials; none of them retries by itself.

google-cloud-storage blocks, so its calls run on a few threads of the store. It looks for credentials when the first call
is made, on the thread of that call.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from threading import Lock
from typing import Any, TypeVar

import requests
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Bucket, Client
from google.cloud.storage.exceptions import InvalidResponse
from obstore.exceptions import BaseError
from obstore.store import GCSStore

from tiering.errors import Misconfigured, ObjectStoreError
from tiering.ledger.rows import Operation
from tiering.metering.meter import Meter
from tiering.objects.gcs.answers import is_of_provider, of_google, of_obstore, one_line
from tiering.objects.gcs.config import GcsConfig
from tiering.objects.gcs.counting import CountingAdapter
from tiering.objects.gcs.credentials import CredentialSource
from tiering.objects.gcs.errors import classified
from tiering.threads import Threads

R = TypeVar("R")

GOOGLE = (
    "https://storage.googleapis.com"  # Said to both clients, which else look for others in the environment.
)
# As many connections as ``requests`` keeps to one host.
THREADS = 10
OBSTORE_FAILURES = (BaseError, OSError, ValueError)
_GOOGLE_FAILURES = (
    *(GoogleAPIError, GoogleAuthError, InvalidResponse),
    *(requests.RequestException, OSError, ValueError),
)
# Else the library reads the bucket's metadata beside the first request, for traces that nobody collects.
_NO_BUCKET_METADATA = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"
_key: ContextVar[str] = ContextVar("key", default="")
"""What a call is about, for its thread."""


class GoogleClient:
    """The bucket as google-cloud-storage has it, and the threads on which its calls block: ``THREADS`` at once, the others
    wait. A call whose caller was cancelled goes on to its end, or its timeout."""

    def __init__(self, config: GcsConfig, meter: Meter) -> None:
        self.credentials = CredentialSource(config)
        self.threads = Threads(THREADS, "gcs")
        self._config = config
        self._meter = meter
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = Lock()
        self._bucket: Bucket | None = None
        os.environ.setdefault(_NO_BUCKET_METADATA, "true")

    async def call(self, key: str, work: Callable[[Bucket], R]) -> R:
        """What ``work`` returns; its failures as the port's errors about ``key``."""
        return await self.run(key, lambda: work(self._opened()))

    async def run(self, key: str, work: Callable[[], R]) -> R:
        """As ``call``, for work that needs no bucket."""
        self._loop = asyncio.get_running_loop()
        token = _key.set(key)
        try:
            return await self.threads.run(work)
        except ObjectStoreError:
            raise
        except _GOOGLE_FAILURES as error:
            raise classified(of_google(error), key, self._config) from None
        finally:
            _key.reset(token)

    def close(self) -> None:
        self.threads.close()

    def _opened(self) -> Bucket:
        with self._lock:
            if self._bucket is None:
                # No call here needs a project: they name the bucket.
                client = Client(
                    "-",
                    credentials=self.credentials.find(),
                    client_options={"api_endpoint": self._config.endpoint or GOOGLE},
                )
                counting = CountingAdapter(self._config.bucket, self._note)
                for scheme in ("https://", "http://"):
                    client._http.mount(scheme, counting)
                self._bucket = client.bucket(self._config.bucket)
            return self._bucket

    def _note(self, operation: Operation, sent_bytes: int, failed: bool) -> None:
        """On the thread that has asked."""
        assert self._loop is not None
        self._meter.note_on(self._loop, operation, _key.get(), failed=failed, sent_bytes=sent_bytes)


def settings_of(config: GcsConfig, bucket: Bucket) -> dict[str, Any]:
    """The bucket's resource in Google's own structure. Blocks."""
    bucket.reload(timeout=config.timeout_s, retry=None)
    found: dict[str, Any] = bucket._properties
    return found


def open_obstore(config: GcsConfig, google: GoogleClient) -> GCSStore:
    """The client of the byte path. Does not talk to Google yet."""
    try:
        return GCSStore(
            config.bucket,
            prefix=config.prefix or None,
            base_url=config.endpoint or GOOGLE,
            skip_signature=config.anonymous,
            client_options={
                "allow_http": config.endpoint.startswith("http://"),
                "timeout": timedelta(milliseconds=config.request_timeout_ms),
                "connect_timeout": timedelta(milliseconds=config.connect_timeout_ms),
            },
            retry_config={
                "max_retries": 0,
                "retry_timeout": timedelta(milliseconds=config.request_timeout_ms),
            },
            credential_provider=google.credentials.provider(google.threads),
        )
    except OBSTORE_FAILURES as error:
        raise Misconfigured(one_line(str(error))) from None


def obstore_error(error: Exception, key: str, config: GcsConfig) -> ObjectStoreError:
    return classified(of_obstore(error), key, config)


async def credentials_error(error: Exception, key: str, google: GoogleClient) -> ObjectStoreError | None:
    """obstore only says that the credentials could not be had: the reason, from asking for them once more. None if the error
    is another one, or they can be had by now."""
    if not is_of_provider(error):
        return None
    try:
        await google.run(key, google.credentials.token)
    except ObjectStoreError as found:
        return found
    return None
