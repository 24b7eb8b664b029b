"""Checks that a bucket does what the tier relies on. Uses aioboto3; imported only on demand.

Each check gives findings. An *error* means that data would be lost, unreadable or unprotected; a *warning* means that
something costs money or could not be checked. The preflight writes nothing but one probe object, and removes it
again.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import aioboto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from tiering.objects.findings import Finding
from tiering.objects.s3.config import S3Config
from tiering.objects.s3.lifecycle import lifecycle_findings

CLOCK_SKEW_WARNING_MS = 60_000
CLOCK_SKEW_ERROR_MS = 900_000  # S3 refuses signatures beyond 15 minutes.
LEFTOVER_AGE_MS = 24 * 3_600_000

_UNKNOWN = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405", "AccessDenied", "403"})


@dataclass(frozen=True, slots=True)
class Leftover:
    """A multipart upload that was begun and neither completed nor aborted: invisible, but paid for."""

    full_key: str
    upload_id: str
    begun_ms: int


@asynccontextmanager
async def opened(config: S3Config) -> AsyncIterator[Any]:
    """An aioboto3 S3 client for this configuration."""
    session = aioboto3.Session(
        aws_access_key_id=config.access_key_id or None,
        aws_secret_access_key=config.secret_access_key or None,
        aws_session_token=config.session_token or None,
        profile_name=config.profile or None,
        region_name=config.region,
    )
    settings = Config(
        connect_timeout=config.connect_timeout_ms / 1_000,
        read_timeout=config.request_timeout_ms / 1_000,
        retries={"max_attempts": 2, "mode": "standard"},
        s3={"addressing_style": "path" if config.path_style else "virtual"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    async with session.client("s3", endpoint_url=config.endpoint or None, config=settings) as client:
        yield client


async def preflight(config: S3Config, now_ms: int) -> list[Finding]:
    """All findings, in the order of the checks; stops early only when the bucket cannot be reached at all."""
    async with opened(config) as client:
        findings = await _reachable(client, config, now_ms)
        if not any((finding.check, finding.level) == ("bucket", "ok") for finding in findings):
            return findings
        checks: list[Callable[[], Awaitable[list[Finding]]]] = [
            lambda: _conditional_writes(client, config),
            lambda: _lifecycle(client, config),
            lambda: _versioning(client, config),
            lambda: _leftovers(client, config, now_ms),
        ]
        for check in checks:
            findings += await check()
        return findings


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


async def _reachable(client: Any, config: S3Config, now_ms: int) -> list[Finding]:
    try:
        answer = await client.head_bucket(Bucket=config.bucket)
    except NoCredentialsError:
        return [Finding("credentials", "error", "no credentials were found in any of the usual places")]
    except ClientError as error:
        return [_why_unreachable(config, error)]
    except BotoCoreError as error:
        return [Finding("bucket", "error", f"cannot reach {config.endpoint or 'S3'}: {error}")]
    findings = [
        Finding("credentials", "ok", "accepted"),
        Finding("bucket", "ok", f"{config.bucket} is reachable"),
    ]
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date:
        skew_ms = abs(now_ms - int(parsedate_to_datetime(date).timestamp() * 1_000))
        level: Literal["ok", "warning", "error"] = (
            "ok"
            if skew_ms < CLOCK_SKEW_WARNING_MS
            else "warning"
            if skew_ms < CLOCK_SKEW_ERROR_MS
            else "error"
        )
        findings.append(Finding("clock", level, f"{skew_ms / 1_000:.0f} s from the server's clock"))
    return findings


def _why_unreachable(config: S3Config, error: ClientError) -> Finding:
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
    if status == 404:
        return Finding("bucket", "error", f"there is no bucket {config.bucket}")
    if status in (301, 307, 400):
        region = headers.get("x-amz-bucket-region", "another one")
        return Finding("bucket", "error", f"the bucket is in region {region}, not in {config.region}")
    if status in (401, 403):
        message = "the credentials are refused, may not see the bucket, or the clock is wrong"
        return Finding("credentials", "error", message)
    return Finding("bucket", "error", f"HTTP {status}: {error}")


async def _conditional_writes(client: Any, config: S3Config) -> list[Finding]:
    """Two brokers must never both win the creation of one object, nor both replace one version."""
    where = {"Bucket": config.bucket, "Key": config.full_key(f"preflight-{uuid.uuid4().hex}")}
    findings = []
    try:
        await client.put_object(**where, Body=b"first", IfNoneMatch="*")
        for name, condition in (
            ("if-none-match", {"IfNoneMatch": "*"}),
            ("if-match", {"IfMatch": '"00000000000000000000000000000000"'}),
        ):
            try:
                await client.put_object(**where, Body=b"second", **condition)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
                    raise
                findings.append(Finding(name, "ok", "conditional writes are honoured"))
            else:
                message = "the server ignores this condition: brokers could overwrite each other"
                findings.append(Finding(name, "error", message))
    except (ClientError, BotoCoreError) as error:
        findings.append(Finding("write", "error", f"cannot write objects: {error}"))
    try:
        await client.delete_object(**where)
    except (ClientError, BotoCoreError) as error:
        findings.append(Finding("delete", "error", f"cannot delete objects: {error}"))
    return findings


async def _lifecycle(client: Any, config: S3Config) -> list[Finding]:
    try:
        answer = await client.get_bucket_lifecycle_configuration(Bucket=config.bucket)
    except ClientError as error:
        if _code(error) == "NoSuchLifecycleConfiguration":
            return [Finding("lifecycle", "ok", "no rules")]
        return [_unlearned("lifecycle", error)]
    prefix = f"{config.prefix}/" if config.prefix else ""
    found = lifecycle_findings(answer.get("Rules", []), prefix)
    if not found:
        return [Finding("lifecycle", "ok", "no rule touches our objects")]
    return [Finding("lifecycle", level, message) for level, message in found]


async def _versioning(client: Any, config: S3Config) -> list[Finding]:
    try:
        answer = await client.get_bucket_versioning(Bucket=config.bucket)
    except ClientError as error:
        return [_unlearned("versioning", error)]
    if answer.get("Status") == "Enabled":
        message = (
            "versioning is on: what retention deletes stays and is paid for until a rule expires old versions"
        )
        return [Finding("versioning", "warning", message)]
    return [Finding("versioning", "ok", "off")]


def _unlearned(check: str, error: ClientError) -> Finding:
    reason = "the server does not tell" if _code(error) in _UNKNOWN else str(error)
    return Finding(check, "warning", f"unknown: {reason}")


async def _leftovers(client: Any, config: S3Config, now_ms: int) -> list[Finding]:
    count = 0
    oldest_ms = now_ms
    try:
        async for leftover in _listed_leftovers(client, config):
            if leftover.begun_ms <= now_ms - LEFTOVER_AGE_MS:
                count += 1
                oldest_ms = min(oldest_ms, leftover.begun_ms)
    except ClientError as error:
        return [_unlearned("multipart leftovers", error)]
    if not count:
        return [Finding("multipart leftovers", "ok", "none older than a day")]
    days = (now_ms - oldest_ms) / 86_400_000
    message = f"{count} unfinished uploads older than a day (the oldest of {days:.0f} days): abort them"
    return [Finding("multipart leftovers", "warning", message)]


async def _listed_leftovers(client: Any, config: S3Config) -> AsyncGenerator[Leftover, None]:
    prefix = f"{config.prefix}/" if config.prefix else ""
    position: dict[str, str] = {}
    while True:
        answer = await client.list_multipart_uploads(Bucket=config.bucket, Prefix=prefix, **position)
        for upload in answer.get("Uploads", []):
            begun_ms = int(upload["Initiated"].timestamp() * 1_000)
            yield Leftover(upload["Key"], upload["UploadId"], begun_ms)
        if not answer.get("IsTruncated"):
            return
        position = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
