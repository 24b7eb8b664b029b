"""The process behind ``control``: ``python -m tiering.objects.s3.control_process``.

Standard input: the configuration as one line of JSON (secrets are in no argument), then one request a line; the process ends
with it. Standard output: one answer a line, ``{"number", "result"}`` or ``{"number", "error", "message", "key"}``; before it
one line for each HTTP request that was made for it: ``{"number", "asked": [operation, whether it failed]}``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from tiering.errors import AccessDenied, ObjectStoreError
from tiering.ledger.rows import Operation
from tiering.objects.classes import S3_CLASSES, StorageClass, class_named
from tiering.objects.port import UploadInfo
from tiering.objects.s3.advice import NO_CREDENTIALS
from tiering.objects.s3.boto_client import opened, unfinished_uploads
from tiering.objects.s3.config import S3Config
from tiering.objects.s3.errors import classified

ACTIONS = {
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CopyObject": "s3:PutObject",
    "HeadObject": "s3:GetObject",
}
"""What a policy calls the operations that are asked here."""
UNKNOWN_THERE = (405, 501)
"""Answers of a server that does not serve a request at all."""
Handler = Callable[[Any, S3Config, dict[str, Any]], Awaitable[Any]]


async def copy(client: Any, config: S3Config, request: dict[str, Any]) -> dict[str, Any]:
    """The metadata directive makes servers accept a copy onto itself; our objects carry no metadata that it could drop."""
    storage_class = StorageClass(request["storage_class"])
    answer = await client.copy_object(
        Bucket=config.bucket,
        Key=config.full_key(request["target"]),
        CopySource={"Bucket": config.bucket, "Key": config.full_key(request["source"])},
        CopySourceIfMatch=request["version"],
        StorageClass=S3_CLASSES[storage_class].name,
        MetadataDirective="REPLACE",
    )
    found = await _described(client, config, request["target"])
    return {**found, "version": _quoted(answer["CopyObjectResult"]["ETag"])}


async def describe(client: Any, config: S3Config, request: dict[str, Any]) -> dict[str, Any]:
    return await _described(client, config, request["key"])


async def _described(client: Any, config: S3Config, key: str) -> dict[str, Any]:
    answer = await client.head_object(Bucket=config.bucket, Key=config.full_key(key))
    storage_class = class_named(S3_CLASSES, answer.get("StorageClass", ""))
    return {
        "size_bytes": answer["ContentLength"],
        "version": _quoted(answer["ETag"]),
        "modified_ms": int(answer["LastModified"].timestamp() * 1_000),
        "storage_class": None if storage_class is None else int(storage_class),
    }


def _quoted(etag: str) -> str:
    """As HTTP and obstore write it; some servers leave the quotes out here."""
    return etag if etag.startswith('"') else f'"{etag}"'


async def list_uploads(client: Any, config: S3Config, request: dict[str, Any]) -> list[UploadInfo]:
    return await unfinished_uploads(client, config, request["prefix"])


async def abort_upload(client: Any, config: S3Config, request: dict[str, Any]) -> None:
    try:
        await client.abort_multipart_upload(
            Bucket=config.bucket, Key=config.full_key(request["key"]), UploadId=request["upload_id"]
        )
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in ("NoSuchUpload", "404"):
            raise


async def keeps_old_versions(client: Any, config: S3Config, request: dict[str, Any]) -> str | None:
    try:
        answer = await client.get_bucket_versioning(Bucket=config.bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in UNKNOWN_THERE:
            return None  # A server that knows no versions keeps none.
        raise
    if answer.get("Status") in ("Enabled", "Suspended"):
        state = "on" if answer["Status"] == "Enabled" else "suspended, and older versions stay"
        return f"versioning of bucket {config.bucket} is {state}"
    try:
        answer = await client.get_object_lock_configuration(Bucket=config.bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (404, *UNKNOWN_THERE):
            return None
        raise
    locked = answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"
    return f"bucket {config.bucket} has object lock" if locked else None


_HANDLERS: dict[str, Handler] = {
    "copy": copy,
    "describe": describe,
    "list_uploads": list_uploads,
    "abort_upload": abort_upload,
    "keeps_old_versions": keeps_old_versions,
}


_number: ContextVar[int] = ContextVar("number")
"""Of the request that is being carried out."""


def _say(line: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(0)  # The broker was killed: nobody waits for answers.


def _tell_request(operation: Operation, has_failed: bool, sent_bytes: int) -> None:
    """Nothing is put from here."""
    assert not sent_bytes
    _say({"number": _number.get(), "asked": [operation.value, has_failed]})


async def answered(client: Any, config: S3Config, line: bytes) -> None:
    request = json.loads(line)
    number, key = request["number"], request.get("key") or request.get("source") or request.get("prefix", "")
    _number.set(number)
    answer: dict[str, Any]
    try:
        answer = {"result": await _HANDLERS[request["verb"]](client, config, request)}
    except (ClientError, BotoCoreError) as error:
        refusal = _refusal(error, config)
        answer = {"error": type(refusal).__name__, "message": str(refusal), "key": key}
    except Exception as error:
        # An odd server, or a mistake here: it costs this request, not the process that all others wait for.
        message = f"{request.get('verb')} failed in this client: {type(error).__name__}: {error}"
        answer = {"error": "ObjectStoreError", "message": message, "key": key}
    _say({"number": number, **answer})


def _refusal(error: ClientError | BotoCoreError, config: S3Config) -> ObjectStoreError:
    """Classified as an answer that obstore met: the advice reads its way of telling one."""
    if isinstance(error, NoCredentialsError):
        return AccessDenied(NO_CREDENTIALS)
    if not isinstance(error, ClientError):
        return classified(error, "", config)
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    told = error.response.get("Error", {})
    body = f"<Error><Code>{told.get('Code', '')}</Code><Message>{told.get('Message', '')}</Message></Error>"
    refusal = classified(OSError(f"status code: {status}: {body}"), "", config)
    if not isinstance(refusal, AccessDenied):
        return refusal
    return AccessDenied(str(refusal).replace("s3:*", ACTIONS.get(error.operation_name, "s3:*")))


async def serve() -> None:
    loop = asyncio.get_running_loop()
    config = S3Config(**json.loads(await loop.run_in_executor(None, sys.stdin.buffer.readline)))
    async with opened(config, _tell_request) as client, asyncio.TaskGroup() as group:
        while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
            group.create_task(answered(client, config, line))


if __name__ == "__main__":
    asyncio.run(serve())
