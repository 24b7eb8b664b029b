"""aioboto3, for what obstore cannot ask of S3. Imported only in processes of their own, which a broker is not.

Every attempt is told, those that the client repeats by itself too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import aioboto3
from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.httpsession import AIOHTTPSession  # type: ignore[import-untyped]

from tiering.ledger.rows import Operation
from tiering.metering.meter import is_unsent
from tiering.objects.port import LIST_LIMIT_MAX, UploadInfo
from tiering.objects.s3.config import S3Config

OnRequest: TypeAlias = Callable[[Operation, bool, int], object]
"""(what was asked, whether it failed, bytes of the body that carried an object)."""
_body_bytes: ContextVar[int] = ContextVar("body_bytes", default=0)
OPERATIONS = {
    "CopyObject": Operation.COPY,
    "HeadObject": Operation.HEAD,
    "GetObject": Operation.GET,
    "PutObject": Operation.PUT,
    "DeleteObject": Operation.DELETE,
    "DeleteObjects": Operation.DELETE,
    "ListObjectsV2": Operation.LIST,
    "ListObjectVersions": Operation.LIST,
    "ListMultipartUploads": Operation.LIST_UPLOADS,
    "CreateMultipartUpload": Operation.CREATE_UPLOAD,
    "AbortMultipartUpload": Operation.ABORT_UPLOAD,
}
"""All else is about the bucket."""


class _OnceSession(AIOHTTPSession):  # type: ignore[misc]
    """aiohttp repeats a request by itself, and says nothing of it, where a connection breaks before the answer."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False
        return session


@asynccontextmanager
async def opened(config: S3Config, on_request: OnRequest) -> AsyncIterator[Any]:
    """An aioboto3 S3 client for this configuration. ``on_request``: told of each attempt, in the caller's context."""

    def note(
        event_name: str,
        response_dict: Mapping[str, Any] | None,
        exception: Exception | None,
        **_: Any,
    ) -> None:
        if exception is not None and is_unsent(exception):
            return
        has_failed = response_dict is None or response_dict["status_code"] >= 300
        operation = OPERATIONS.get(event_name.rsplit(".", 1)[-1], Operation.DESCRIBE)
        on_request(operation, has_failed, _body_bytes.get() if operation is Operation.PUT else 0)

    def weigh(request: Any, **_: Any) -> None:
        _body_bytes.set(int(request.headers.get("Content-Length") or 0))

    session = aioboto3.Session(
        aws_access_key_id=config.access_key_id or None,
        aws_secret_access_key=config.secret_access_key or None,
        aws_session_token=config.session_token or None,
        profile_name=config.profile or None,
        region_name=config.region,
    )
    settings = AioConfig(
        http_session_cls=_OnceSession,
        connect_timeout=config.connect_timeout_ms / 1_000,
        read_timeout=config.request_timeout_ms / 1_000,
        retries={"max_attempts": 2, "mode": "standard"},
        s3={"addressing_style": "path" if config.path_style else "virtual"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    async with session.client("s3", endpoint_url=config.endpoint or None, config=settings) as client:
        client.meta.events.register("before-send.s3", weigh)
        client.meta.events.register("response-received.s3", note)
        yield client


async def unfinished_uploads(client: Any, config: S3Config, prefix: str) -> list[UploadInfo]:
    """Those below a prefix of the store, at most ``LIST_LIMIT_MAX``."""
    store_prefix = config.full_key("") if config.prefix else ""
    found: list[UploadInfo] = []
    position: dict[str, str] = {}
    while len(found) < LIST_LIMIT_MAX:
        answer = await client.list_multipart_uploads(
            Bucket=config.bucket, Prefix=store_prefix + prefix, **position
        )
        for each in answer.get("Uploads", []):
            begun_ms = int(each["Initiated"].timestamp() * 1_000)
            found.append(UploadInfo(each["Key"].removeprefix(store_prefix), each["UploadId"], begun_ms))
        if not answer.get("IsTruncated"):
            break
        position = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
    return found[:LIST_LIMIT_MAX]
