"""A look at a bucket of S3 or its kin. Uses aioboto3: a broker has it done in a process of its own (``apart``)."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tiering.doctor.clock import skew_findings
from tiering.doctor.neighbours import neighbours, outer_prefixes, owner, places
from tiering.doctor.trial import merged, probe_key, tried
from tiering.doctor.wanted import Wanted
from tiering.errors import Misconfigured, ObjectStoreError
from tiering.ledger.rows import Operation
from tiering.metering.meter import Meter
from tiering.objects.findings import Finding, Level, finding_of
from tiering.objects.s3.advice import missing_credentials, not_allowed
from tiering.objects.s3.boto_client import opened, unfinished_uploads
from tiering.objects.s3.config import S3Config
from tiering.objects.s3.lifecycle import lifecycle_findings
from tiering.objects.s3.store import S3ObjectStore

LEFTOVER_AGE_MS = 24 * 3_600_000
ROLE_S = 5.0  # How long a machine's role is waited for where no other credentials are configured.
_NOT_THERE = (404, 405, 501)
_DENIED = (401, 403)


async def examine(config: S3Config, wanted: Wanted, now_ms: int, meter: Meter | None = None) -> list[Finding]:
    """All findings, in the order of the checks; stops early only when the bucket cannot be reached at all."""
    meter = meter or Meter()

    def count(operation: Operation, has_failed: bool, sent_bytes: int) -> None:
        meter.note(operation, "", failed=has_failed, sent_bytes=sent_bytes)

    try:
        async with _opened_stores(config, meter) as (store, outer):
            refusal = await _refusal(store, config)
            if refusal is not None and refusal.check != "permissions":
                return [refusal]
            findings = [
                Finding("credentials", "ok", "accepted"),
                Finding("bucket", "ok", f"{config.bucket} at {config.place} answers"),
            ]
            async with opened(config, count) as client:
                examiner = _Examiner(client, config, now_ms)
                if refusal is None:
                    findings += await owner(store, wanted.cluster_id)
                    findings += await neighbours(store, outer)
                findings += await examiner.settings()
                tries = [refusal] if refusal is not None else []
                tries += await tried(store, examiner.trial, wanted.classes)
    except Misconfigured as error:
        return [finding_of(error)]
    except BotoCoreError as error:
        return [
            Finding("endpoint", "error", " ".join(str(error).split()), "look at the server, and try again")
        ]
    return merged(findings, tries)


@asynccontextmanager
async def _opened_stores(
    config: S3Config, meter: Meter
) -> AsyncIterator[tuple[S3ObjectStore, dict[str, S3ObjectStore]]]:
    """The store, and those around it by their URLs."""
    store = S3ObjectStore(config, meter)
    named = places(f"s3://{config.bucket}", outer_prefixes(config.prefix))
    outer = {place: S3ObjectStore(replace(config, prefix=prefix), meter) for prefix, place in named.items()}
    try:
        yield store, outer
    finally:
        for each in (store, *outer.values()):
            await each.close()


async def _refusal(store: S3ObjectStore, config: S3Config) -> Finding | None:
    """Why the bucket cannot be listed; None if it can."""
    missing = missing_credentials(config, os.environ)
    try:
        async with asyncio.timeout(ROLE_S if missing is not None else None):
            await store.list("", limit=1)
    except TimeoutError:
        assert missing is not None
        return Finding(*missing[:1], "error", *missing[1:])
    except ObjectStoreError as error:
        return finding_of(error)
    return None


class _Examiner:
    """What only S3's own interface tells."""

    def __init__(self, client: Any, config: S3Config, now_ms: int) -> None:
        self._client = client
        self._config = config
        self._now_ms = now_ms

    async def settings(self) -> list[Finding]:
        """What the bucket does with objects by itself, and the server's clock."""
        is_locked, locked = await self._object_lock()
        # A locked bucket is versioned, too: that is one mistake.
        return [
            *await self._clock(),
            locked,
            *([] if is_locked else await self._versioning()),
            *await self._lifecycle(),
            *await self._leftovers(),
            *await self._beyond_need(),
        ]

    async def trial(self, key: str) -> list[Finding]:
        """While the object ``key`` is there: what obstore does not say of a server."""
        return [*await self._checksums(key), *await self._uploads()]

    async def _clock(self) -> list[Finding]:
        try:
            answer = await self._client.head_bucket(Bucket=self._config.bucket)
        except ClientError as error:
            answer = error.response
        date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
        return skew_findings(self._now_ms, date)

    async def _asked(
        self, check: str, action: str, call: Callable[..., Awaitable[dict[str, Any]]]
    ) -> dict[str, Any] | Finding:
        """A setting of the bucket; empty where it is not set, or the server does not know it."""
        try:
            return await call(Bucket=self._config.bucket)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status in _NOT_THERE:
                return {}
            if status in _DENIED:
                remedy = f"allow {action} (deploy/policies/s3-doctor.json)"
                return Finding(check, "warning", f"unknown: {action} is not allowed", remedy)
            return Finding(check, "warning", f"unknown: {error}", "look at the server")

    async def _object_lock(self) -> tuple[bool, Finding]:
        """Whether it is known to be on, and what follows."""
        client = self._client
        answer = await self._asked(
            "object lock", "s3:GetBucketObjectLockConfiguration", client.get_object_lock_configuration
        )
        if isinstance(answer, Finding):
            return False, answer
        found = answer.get("ObjectLockConfiguration", {})
        if found.get("ObjectLockEnabled") != "Enabled":
            return False, Finding("object lock", "ok", "off")
        retention = found.get("Rule", {}).get("DefaultRetention")
        if not retention:
            message = (
                "object lock is on, and versioning with it: what retention deletes stays and is paid for"
            )
            return True, Finding("object lock", "warning", message, "take a bucket without it")
        kept = f"{retention['Days']} days" if "Days" in retention else f"{retention.get('Years')} years"
        message = f"object lock keeps every new object for {kept}: deletes free nothing, S3 refuses uploads without checksum"
        remedy = "remove its default retention, or take a bucket without it"
        return True, Finding("object lock", "error", message, remedy)

    async def _versioning(self) -> list[Finding]:
        answer = await self._asked("versioning", "s3:GetBucketVersioning", self._client.get_bucket_versioning)
        if isinstance(answer, Finding):
            return [answer]
        if answer.get("Status") == "Suspended":
            message = "versioning is suspended: versions from before stay and are paid for, and tierlog.tiers moves nothing"
            return [Finding("versioning", "warning", message, "take a bucket that never had versions")]
        if answer.get("Status") != "Enabled":
            return [Finding("versioning", "ok", "off")]
        message = (
            "versioning is on: what retention deletes stays and is paid for, and tierlog.tiers moves nothing"
        )
        remedy = "suspend it, or add a lifecycle rule that expires noncurrent versions (NoncurrentVersionExpiration)"
        return [Finding("versioning", "warning", message, remedy)]

    async def _lifecycle(self) -> list[Finding]:
        client = self._client
        answer = await self._asked(
            "lifecycle", "s3:GetLifecycleConfiguration", client.get_bucket_lifecycle_configuration
        )
        if isinstance(answer, Finding):
            return [answer]
        prefix = self._config.full_key("") if self._config.prefix else ""
        found = lifecycle_findings(answer.get("Rules", []), prefix)
        return found or [Finding("lifecycle", "ok", "no rule touches our objects")]

    async def _leftovers(self) -> list[Finding]:
        try:
            uploads = await unfinished_uploads(self._client, self._config, "")
        except ClientError as error:
            return [self._refused(error, "s3:ListBucketMultipartUploads", level="warning")]
        old = [each for each in uploads if each.begun_ms <= self._now_ms - LEFTOVER_AGE_MS]
        if not old:
            return [Finding("leftovers", "ok", "no unfinished upload is older than a day")]
        days = (self._now_ms - min(each.begun_ms for each in old)) / 86_400_000
        message = (
            f"{len(old)} unfinished uploads are older than a day (the oldest {days:.0f} days) and paid for"
        )
        remedy = "add a lifecycle rule with AbortIncompleteMultipartUpload, or abort them (aws s3api abort-multipart-upload)"
        return [Finding("leftovers", "warning", message, remedy)]

    async def _beyond_need(self) -> list[Finding]:
        """Whether objects outside the prefix are in reach: asks for one that is not there, and to abort an upload that is
        not there. Of an allowed request the server says so; nothing can change."""
        if not self._config.prefix:
            return []
        where = {"Bucket": self._config.bucket, "Key": probe_key()}
        reach = []
        for verb, call in (
            ("read", self._client.get_object(**where)),
            ("written", self._client.abort_multipart_upload(**where, UploadId="none")),
        ):
            try:
                await call
                reach.append(verb)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] not in _DENIED:
                    reach.append(verb)
        if not reach:
            return []
        message = (
            f"objects outside {self._config.prefix}/ can be {' and '.join(reach)} with these credentials"
        )
        remedy = f"limit their policy to {self._config.prefix}/* (deploy/policies/s3-broker.json)"
        return [Finding("permissions", "warning", message, remedy)]

    async def _checksums(self, key: str) -> list[Finding]:
        wrong = base64.b64encode(b"\0\0\0\1").decode()
        try:
            await self._client.put_object(
                Bucket=self._config.bucket,
                Key=self._config.full_key(key),
                Body=b"bytes",
                ChecksumCRC32C=wrong,
            )
        except ClientError:
            return [Finding("checksums", "ok", "compared by the server")]
        message = "the server does not compare checksums: bytes that are damaged on the way are stored"
        return [
            Finding("checksums", "warning", message, "speak to it over https, or use a server that compares")
        ]

    async def _uploads(self) -> list[Finding]:
        """An upload in parts, begun and given up."""
        where = {"Bucket": self._config.bucket, "Key": self._config.full_key(probe_key())}
        try:
            begun = await self._client.create_multipart_upload(**where)
        except ClientError as error:
            return [self._refused(error, "s3:PutObject")]
        try:
            await self._client.abort_multipart_upload(**where, UploadId=begun["UploadId"])
        except ClientError as error:
            return [self._refused(error, "s3:AbortMultipartUpload")]
        return []

    def _refused(self, error: ClientError, action: str, *, level: Level = "error") -> Finding:
        status, code = (
            error.response["ResponseMetadata"]["HTTPStatusCode"],
            error.response["Error"].get("Code"),
        )
        if status in _DENIED:
            told = not_allowed(action, str(code), self._config)
            return Finding(told.about, level, told.mistake, told.remedy)
        return Finding("server", level, f"{error.operation_name} fails: {error}", "use another server")
