"""S3 and compatible services; bytes go through obstore (Rust, off the GIL). Imported only to open an ``s3://`` store.

It never retries (``retrying`` does, knowing which outcome is ambiguous), so that one call is one request, and is counted as
one (``tiering.metering``).

A stream larger than one part goes up as multipart (``uploads``): one part being sent, or as many as the caller allows
(``PutOptions.parts_at_once``), and one being filled. A conditional write is one request, because S3 decides the
condition when that request commits. HTTP's inclusive ranges end in obstore: everything here is half-open.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Client

from tiering.errors import (
    AccessDenied,
    Advice,
    InvalidRange,
    Misconfigured,
    NotFound,
    ObjectStoreError,
    PreconditionFailed,
    Unavailable,
)
from tiering.ledger.rows import Operation
from tiering.metering.meter import Meter
from tiering.objects.classes import S3_CLASSES, StorageClass
from tiering.objects.port import (
    LIST_LIMIT_MAX,
    PLAIN,
    WHOLE_BYTES_MAX,
    Buffer,
    Content,
    ObjectInfo,
    PutOptions,
    UploadInfo,
    check_key,
    check_prefix,
    check_whole,
)
from tiering.objects.s3.advice import advice, half_credentials, shortened
from tiering.objects.s3.config import PART_BYTES_MIN, PART_COUNT_MAX, S3Config
from tiering.objects.s3.control import Control
from tiering.objects.s3.deletes import delete_keys
from tiering.objects.s3.errors import classified
from tiering.objects.streams import whole

if TYPE_CHECKING:
    from obstore import Attributes, ObjectMeta, PutMode, PutResult

    from tiering.objects.s3.uploads import Uploads

_FAILURES = (BaseError, OSError, ValueError)


def open_client(config: S3Config) -> Client:
    """An obstore client with its own connection pool. Raises ``Misconfigured`` for a profile that is not there."""
    provider = None
    if config.profile:
        from boto3 import Session  # type: ignore[import-untyped]
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider

        try:
            provider = Boto3CredentialProvider(Session(profile_name=config.profile))
        except (BotoCoreError, ValueError) as error:
            mistake = f"profile={config.profile} cannot be used: {error}"
            remedy = "correct profile in the URL, or the profile in AWS's own files"
            raise Misconfigured(Advice("credentials", mistake, remedy)) from None
    settings: dict[str, str] = {
        "endpoint": config.endpoint,
        "access_key_id": config.access_key_id,
        "secret_access_key": config.secret_access_key,
        "session_token": config.session_token,
    }
    return Client(
        config.bucket,
        prefix=config.prefix or None,
        region=config.region,
        virtual_hosted_style_request=not config.path_style,
        unsigned_payload=config.unsigned_payload,
        client_options={
            "allow_http": config.endpoint.startswith("http://"),
            "timeout": timedelta(milliseconds=config.request_timeout_ms),
            "connect_timeout": timedelta(milliseconds=config.connect_timeout_ms),
        },
        retry_config={
            "max_retries": 0,
            "retry_timeout": timedelta(milliseconds=config.request_timeout_ms),
        },
        credential_provider=provider,
        **{name: value for name, value in settings.items() if value},  # type: ignore[arg-type]
    )


class S3ObjectStore:
    """``ObjectStore`` on one bucket and prefix."""

    def __init__(self, config: S3Config, meter: Meter | None = None) -> None:
        self._config = config
        self._meter = meter or Meter()
        self._control = Control(config, self._meter)
        self._in_parts: Uploads | None = None
        half = half_credentials(config, os.environ)
        if half is not None:
            raise Misconfigured(half)
        try:
            self._client = open_client(config)
        except BaseError as error:
            text = str(error)
            raise Misconfigured(advice(text, config) or shortened(text)) from None

    async def put(
        self,
        key: str,
        content: Content,
        *,
        size_bytes: int,
        if_absent: bool = False,
        options: PutOptions = PLAIN,
    ) -> ObjectInfo:
        check_key(key)
        if if_absent:
            check_whole(key, size_bytes)
        part_bytes = max(options.part_bytes, PART_BYTES_MIN)
        if not options.part_bytes:
            part_bytes = self._config.part_bytes_of(size_bytes)
        if if_absent or size_bytes <= part_bytes:
            data = await whole(key, content, size_bytes, options.crc32c)
            mode: PutMode = "create" if if_absent else "overwrite"
            return await self._put_whole(key, data, mode, options.storage_class)
        part_bytes = max(part_bytes, -(-size_bytes // PART_COUNT_MAX))
        etag = await self._uploads().put(key, content, size_bytes, part_bytes, options)
        return ObjectInfo(key, size_bytes, etag, storage_class=options.storage_class)

    def _uploads(self) -> Uploads:
        if self._in_parts is None:
            from tiering.objects.s3.uploads import Uploads

            self._in_parts = Uploads(self._config, self._meter)
        return self._in_parts

    async def put_if_match(self, key: str, data: Buffer, version: str) -> ObjectInfo:
        check_key(key)
        check_whole(key, len(data))
        try:
            return await self._put_whole(key, data, {"e_tag": version})
        except NotFound as error:  # AWS says 404 where others say 412.
            raise PreconditionFailed("the object is gone", key=key) from error

    async def copy(
        self, source: str, target: str, *, version: str, storage_class: StorageClass
    ) -> ObjectInfo:
        check_key(source)
        names = {"source": source, "target": check_key(target)}
        found = await self._control.ask("copy", **names, version=version, storage_class=int(storage_class))
        return _told_info(target, {**found, "storage_class": storage_class})

    async def _put_whole(
        self, key: str, data: Buffer, mode: PutMode, storage_class: StorageClass = StorageClass.STANDARD
    ) -> ObjectInfo:
        try:
            with self._meter.asked(
                Operation.PUT, key, sent_bytes=len(data), storage_class=storage_class.label
            ):
                result = await obstore.put_async(
                    self._client,
                    key,
                    data,
                    mode=mode,
                    use_multipart=False,
                    attributes=_attributes(storage_class),
                )
        except _FAILURES as error:
            raise classified(error, key, self._config) from None
        return _put_info(key, len(data), result, storage_class)

    async def get(self, key: str, *, bytes_max: int = WHOLE_BYTES_MAX) -> tuple[ObjectInfo, Buffer]:
        check_key(key)
        try:
            with self._meter.asked(Operation.GET, key) as asked:
                result = await obstore.get_async(self._client, key)
                info = _info(result.meta, key)
                check_whole(key, info.size_bytes, bytes_max)
                data = memoryview(await result.bytes_async())
                asked.received_bytes = len(data)
        except _FAILURES as error:
            raise classified(error, key, self._config) from None
        if len(data) != info.size_bytes:
            raise Unavailable(f"{len(data)} of {info.size_bytes} bytes came", key=key)
        return info, data

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        assert 0 <= start < end, "a range holds at least one byte"
        check_key(key)
        try:
            with self._meter.asked(Operation.GET, key) as asked:
                data = memoryview(await obstore.get_range_async(self._client, key, start=start, end=end))
                asked.received_bytes = len(data)
        except _FAILURES as error:
            raise classified(error, key, self._config) from None
        if len(data) != end - start:
            raise InvalidRange(f"[{start}, {end}) gave only {len(data)} bytes", key=key)
        return data

    async def head(self, key: str, *, complete: bool = False) -> ObjectInfo:
        check_key(key)
        if complete:
            return _told_info(key, await self._control.ask("describe", key=key))
        try:
            with self._meter.asked(Operation.HEAD, key):
                return _info(await obstore.head_async(self._client, key), key)
        except _FAILURES as error:
            raise classified(error, key, self._config) from None

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = LIST_LIMIT_MAX
    ) -> Sequence[ObjectInfo]:
        assert 0 < limit <= LIST_LIMIT_MAX
        check_prefix(prefix)
        stream = obstore.list(
            self._client, prefix.rstrip("/") or None, offset=start_after or None, chunk_size=limit
        )
        try:
            with self._meter.asked(Operation.LIST, prefix):
                page: Sequence[ObjectMeta] = await anext(stream, [])
        except _FAILURES as error:
            raise classified(error, prefix, self._config) from None
        return [_info(meta, meta["path"]) for meta in page]

    async def delete(self, keys: Iterable[str]) -> dict[str, ObjectStoreError]:
        return await delete_keys(self._client, self._config, self._meter, [check_key(key) for key in keys])

    async def list_uploads(self, prefix: str) -> Sequence[UploadInfo]:
        found = await self._control.ask("list_uploads", prefix=check_prefix(prefix))
        return [UploadInfo(*row) for row in found]

    async def abort_upload(self, upload: UploadInfo) -> None:
        await self._control.ask("abort_upload", key=upload.key, upload_id=upload.upload_id)

    async def keeps_old_versions(self) -> str | None:
        try:
            answer: str | None = await self._control.ask("keeps_old_versions")
        except AccessDenied as error:
            return f"whether the bucket keeps former versions cannot be asked: {error}"
        return answer

    async def close(self) -> None:
        """Connections of obstore's end when they are idle."""
        if self._in_parts is not None:
            self._in_parts.close()
        await self._control.close()


def _attributes(storage_class: StorageClass) -> Attributes | None:
    """The standard class needs no naming, and some servers know no other."""
    is_standard = storage_class == StorageClass.STANDARD
    return None if is_standard else {"Storage-Class": S3_CLASSES[storage_class].name}


def _put_info(key: str, size_bytes: int, result: PutResult, storage_class: StorageClass) -> ObjectInfo:
    return ObjectInfo(key, size_bytes, result["e_tag"] or "", storage_class=storage_class)


def _told_info(key: str, told: dict[str, Any]) -> ObjectInfo:
    """From an answer of the control process."""
    storage_class = told["storage_class"]
    known = None if storage_class is None else StorageClass(storage_class)
    return ObjectInfo(key, told["size_bytes"], told["version"], told["modified_ms"], known)


def _info(meta: ObjectMeta, key: str) -> ObjectInfo:
    modified_ms = int(meta["last_modified"].timestamp() * 1_000)
    return ObjectInfo(key, meta["size"], meta["e_tag"] or "", modified_ms)
