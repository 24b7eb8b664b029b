"""A look at a bucket of Google Cloud Storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import requests
from google.cloud.storage import Bucket

from tiering.doctor.clock import skew_findings
from tiering.doctor.neighbours import neighbours, outer_prefixes, owner, places
from tiering.doctor.trial import merged, tried
from tiering.doctor.wanted import Wanted
from tiering.errors import AccessDenied, ChecksumMismatch, NotFound, ObjectStoreError
from tiering.metering.meter import Meter
from tiering.objects.findings import Finding, finding_of
from tiering.objects.gcs.client import GOOGLE, GoogleClient, settings_of
from tiering.objects.gcs.config import GcsConfig
from tiering.objects.gcs.lifecycle import settings_findings
from tiering.objects.gcs.puts import blob_to_be
from tiering.objects.gcs.store import GcsObjectStore
from tiering.objects.port import PutOptions

# What the store does, and what of it an operator may have forgotten to grant.
PERMISSIONS = tuple(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list"))
# For the checks of the bucket's settings only.
_OF_SETTINGS = "storage.buckets.get"
# With these, who gets hold of a broker's credentials can undo what protects the bucket.
_BEYOND_NEED = ("storage.buckets.delete", "storage.buckets.setIamPolicy", "storage.buckets.update")
_WRONG_CRC = 1


async def examine(
    config: GcsConfig, wanted: Wanted, now_ms: int, meter: Meter | None = None
) -> list[Finding]:
    """All findings, in the order of the checks; stops early only when the bucket cannot be reached at all."""
    meter = meter or Meter()
    google = GoogleClient(config, meter)
    examiner = _Examiner(config, google)
    try:
        async with _opened_stores(config, meter) as (store, outer):
            refusal = await examiner.refusal(store)
            if refusal is not None and refusal.check != "permissions":
                return [refusal]
            granted = await examiner.granted()
            findings = [Finding("credentials", "ok", "accepted")]
            findings += [*await examiner.clock(now_ms), *_permissions(granted)]
            if all(each.level != "error" for each in findings):
                findings += await owner(store, wanted.cluster_id)
                findings += await neighbours(store, outer)
            findings += await examiner.settings(is_granted=granted is None or _OF_SETTINGS in granted)
            tries = [refusal] if refusal is not None else []
            tries += await tried(store, examiner.trial, wanted.classes)
    except ObjectStoreError as error:
        return [finding_of(error)]
    finally:
        google.close()
    return merged(findings, tries)


@asynccontextmanager
async def _opened_stores(
    config: GcsConfig,
    meter: Meter,
) -> AsyncIterator[tuple[GcsObjectStore, dict[str, GcsObjectStore]]]:
    """The store, and those around it by their URLs."""
    store = GcsObjectStore(config, meter)
    named = places(f"gs://{config.bucket}", outer_prefixes(config.prefix))
    outer = {place: GcsObjectStore(replace(config, prefix=prefix), meter) for prefix, place in named.items()}
    try:
        yield store, outer
    finally:
        for each in (store, *outer.values()):
            await each.close()


class _Examiner:
    """What only Google's own interface tells."""

    def __init__(self, config: GcsConfig, google: GoogleClient) -> None:
        self._config = config
        self._google = google

    async def refusal(self, store: GcsObjectStore) -> Finding | None:
        """Why the bucket cannot be listed; None if it can."""
        try:
            await store.list("", limit=1)
        except ObjectStoreError as error:
            return finding_of(error)
        return None

    async def clock(self, now_ms: int) -> list[Finding]:
        """Google's answers, refusals too, say what time it is there."""

        def work() -> str | None:
            answer = requests.head(self._config.endpoint or GOOGLE, timeout=self._config.timeout_s)
            return answer.headers.get("date")

        return skew_findings(now_ms, await self._google.run("", work))

    async def granted(self) -> list[str] | None:
        """The permissions that these credentials have of those that count; None where the server does not tell."""
        asked = [*PERMISSIONS, _OF_SETTINGS, *_BEYOND_NEED]
        timeout_s = self._config.timeout_s

        def work(bucket: Bucket) -> list[str]:
            found: list[str] = bucket.test_iam_permissions(asked, timeout=timeout_s, retry=None)
            return found

        try:
            return await self._google.call("", work)
        except NotFound:
            return None

    async def settings(self, *, is_granted: bool) -> list[Finding]:
        if not is_granted:
            message = f"unknown: {_OF_SETTINGS} is not granted, so the bucket's settings cannot be checked"
            remedy = f"grant a role with {_OF_SETTINGS} on the bucket (deploy/policies/gcs-doctor.yaml)"
            return [Finding("bucket", "warning", message, remedy)]
        try:
            resource = await self._google.call("", partial(settings_of, self._config))
        except AccessDenied as error:
            return [finding_of(error, level="warning")]
        where = resource.get("location", "an unknown place")
        answers = Finding(
            "bucket", "ok", f"{self._config.bucket} at {self._config.place} answers, in {where}"
        )
        return [
            answers,
            *settings_findings(resource, self._config.full_key("") if self._config.prefix else ""),
        ]

    async def trial(self, key: str) -> list[Finding]:
        """Google compares a checksum before the object appears; so must who imitates it."""

        def work(bucket: Bucket) -> None:
            blob = blob_to_be(bucket, self._config.full_key(key), PutOptions(crc32c=_WRONG_CRC))
            blob.upload_from_string(b"bytes", timeout=self._config.timeout_s, retry=None, checksum=None)

        try:
            await self._google.call(key, work)
        except ChecksumMismatch:
            return [Finding("checksums", "ok", "compared by the server")]
        except ObjectStoreError as error:
            return [finding_of(error)]
        message = "the server does not compare checksums: bytes that are damaged on the way are stored"
        return [Finding("checksums", "warning", message, "use a server that compares crc32c, as Google does")]


def _permissions(granted: list[str] | None) -> list[Finding]:
    if granted is None:
        return [Finding("permissions", "ok", "the server does not tell; they are tried")]
    missing = [each for each in PERMISSIONS if each not in granted]
    if missing:
        message = f"not granted: {', '.join(missing)}"
        remedy = "grant roles/storage.objectUser on the bucket (deploy/policies/gcs-broker.yaml)"
        return [Finding("permissions", "error", message, remedy)]
    beyond = [each for each in _BEYOND_NEED if each in granted]
    if beyond:
        message = f"granted beyond need: {', '.join(beyond)}"
        remedy = "grant roles/storage.objectUser in place of the role that has them"
        return [Finding("permissions", "warning", message, remedy)]
    return [Finding("permissions", "ok", "objects can be created, deleted, read and listed, and no more")]
