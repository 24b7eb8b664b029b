"""Checks that a bucket does what the tier relies on.

As ``s3.preflight``: an *error* means that data would be lost, unreadable or unprotected; a *warning* means that something
costs money or could not be checked. It writes nothing but one probe object, and removes it again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial

from google.cloud.storage import Bucket

from tiering.errors import Misconfigured, NotFound, ObjectStoreError, PreconditionFailed
from tiering.objects.findings import Finding
from tiering.objects.gcs.client import GoogleClient, settings_of
from tiering.objects.gcs.config import GcsConfig
from tiering.objects.gcs.lifecycle import settings_findings

# What the store does, and what of it an operator may have forgotten to grant.
PERMISSIONS = tuple(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list"))
# For the checks of the bucket's settings only.
_OF_SETTINGS = "storage.buckets.get"
_NO_GENERATION = 1


async def preflight(config: GcsConfig) -> list[Finding]:
    """All findings, in the order of the checks; stops early only when the bucket cannot be reached at all."""
    google = GoogleClient(config)
    try:
        return await _Checks(config, google).run()
    finally:
        google.close()


class _Checks:
    def __init__(self, config: GcsConfig, google: GoogleClient) -> None:
        self._config = config
        self._google = google

    async def run(self) -> list[Finding]:
        try:
            granted = await self._granted()
        except ObjectStoreError as error:
            return [Finding("bucket", "error", str(error))]
        findings = [_permissions(granted)]
        findings += await self._settings(is_granted=granted is None or _OF_SETTINGS in granted)
        return findings + await self._conditional_writes()

    async def _granted(self) -> list[str] | None:
        """The permissions that these credentials have of those that count; None where the server does not tell."""
        asked = [*PERMISSIONS, _OF_SETTINGS]
        timeout_s = self._config.timeout_s

        def work(bucket: Bucket) -> list[str]:
            found: list[str] = bucket.test_iam_permissions(asked, timeout=timeout_s, retry=None)
            return found

        try:
            return await self._google.call("", work)
        except NotFound:
            return None

    async def _settings(self, *, is_granted: bool) -> list[Finding]:
        if not is_granted:
            message = f"unknown: {_OF_SETTINGS} is not granted, so the bucket's settings cannot be checked"
            return [Finding("bucket", "warning", message)]

        try:
            resource = await self._google.call("", partial(settings_of, self._config))
        except ObjectStoreError as error:
            return [Finding("bucket", "error", str(error))]
        where = resource.get("location", "an unknown place")
        reachable = f"{self._config.bucket} is reachable, in {where}"
        prefix = self._config.full_key("")
        return [Finding("bucket", "ok", reachable), *settings_findings(resource, prefix)]

    async def _conditional_writes(self) -> list[Finding]:
        """Two brokers must never both win the creation of one object, nor both replace one generation."""
        key = f"preflight-{uuid.uuid4().hex}"
        findings = []
        try:
            await self._put(key, b"first", 0)
            for name, generation in (("if-absent", 0), ("if-match", _NO_GENERATION)):
                try:
                    await self._put(key, b"second", generation)
                except PreconditionFailed:
                    findings.append(Finding(name, "ok", "conditional writes are honoured"))
                else:
                    message = "the server ignores this condition: brokers could overwrite each other"
                    findings.append(Finding(name, "error", message))
        except ObjectStoreError as error:
            findings.append(Finding("write", "error", f"cannot write objects: {error}"))
        try:
            await self._google.call(key, self._deleting(key))
        except Misconfigured:
            pass  # It was said above.
        except ObjectStoreError as error:
            findings.append(Finding("delete", "error", f"cannot delete objects: {error}"))
        return findings

    async def _put(self, key: str, data: bytes, generation: int) -> None:
        def work(bucket: Bucket) -> None:
            bucket.blob(self._config.full_key(key)).upload_from_string(
                data, if_generation_match=generation, timeout=self._config.timeout_s, retry=None
            )

        await self._google.call(key, work)

    def _deleting(self, key: str) -> Callable[[Bucket], None]:
        def work(bucket: Bucket) -> None:
            bucket.blob(self._config.full_key(key)).delete(timeout=self._config.timeout_s, retry=None)

        return work


def _permissions(granted: list[str] | None) -> Finding:
    if granted is None:
        return Finding("permissions", "warning", "unknown: the server does not tell")
    missing = [each for each in PERMISSIONS if each not in granted]
    if not missing:
        return Finding("permissions", "ok", "objects can be created, deleted, read and listed")
    message = f"{', '.join(missing)} are not granted: grant roles/storage.objectUser on the bucket"
    return Finding("permissions", "error", message)
