"""Checks that the bucket belongs to this cluster and can be used, and claims an empty one.

Credentials come from where the provider's own tools take them. AWS: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, web
identity, the container's or the machine's role, or the ``profile`` that the URL of ``tierlog.object.store`` names. Google:
Application Default Credentials, or the ``key.file`` that the URL names. The config refuses credentials in the URL itself,
since the URL is shown in logs.

The broker reads the cluster's marker before it writes anything anywhere (``fit``), and writes the marker before any
other object that stays. A bucket without a marker is tried first: one that ignores conditions or refuses deletes is not
claimed. If the bucket denies access, that is a configuration error as long as the cluster has nothing in the tier; later the
broker starts all the same and serves local data.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import structlog

from tiering.doctor.examine import examine
from tiering.doctor.first_use import require_usable
from tiering.doctor.wanted import Wanted
from tiering.errors import (
    AccessDenied,
    Advice,
    ForeignBucket,
    Misconfigured,
    NotFound,
    ObjectStoreError,
    PreconditionFailed,
    TieringError,
    UnsupportedFormat,
)
from tiering.keys import CLUSTER_MARKER, check_cluster_marker, cluster_marker
from tiering.ledger.rows import Cause
from tiering.metering.accounts import Accounts
from tiering.metering.attribution import attributed
from tiering.objects.classes import StorageClass
from tiering.objects.findings import Finding
from tiering.objects.gcs import advice as gcs_advice
from tiering.objects.opening import gcs_config, parse_address, s3_config
from tiering.objects.port import ObjectStore
from tiering.objects.retrying import last_failure
from tiering.objects.s3.advice import missing_credentials
from tierlog.config.places import OBJECT_STORE, without_query
from tierlog.config.tiers import LOCAL, Rung
from tierlog.errors import UserError

logger = structlog.get_logger()

CLAIM_TIMEOUT_S = 5.0
CLASS_OF = {each.label: each for each in StorageClass}


def url_problem(url: str) -> str | None:
    """The error in the URL as it is written, if any; opens nothing."""
    try:
        address = parse_address(url)
        if address.scheme == "s3":
            s3_config(address)
        elif address.scheme == "gs":
            gcs_config(address)
    except TieringError as error:
        return str(error)
    return None


def why_no_answer(url: str, objects: ObjectStore) -> str:
    """The reason why the store did not answer in time, as far as it is known."""
    known = last_failure(objects) or str(has_no_credentials(url) or "")
    return known or f"no answer within {CLAIM_TIMEOUT_S:.0f} s"


def has_no_credentials(url: str) -> Advice | None:
    """What is said of missing credentials; None if there are some, or none are needed."""
    address = parse_address(url)
    if address.scheme == "s3":
        return missing_credentials(s3_config(address), os.environ)
    if address.scheme == "gs":
        has_gcloud = gcs_advice.file_of_gcloud(os.environ, Path.home()).exists()
        return gcs_advice.missing_credentials(gcs_config(address), os.environ, has_gcloud=has_gcloud)
    return None


async def claim_bucket(objects: ObjectStore, cluster_id: str) -> None:
    """Puts our marker into an empty bucket that does what a broker needs. Raises Misconfigured, ForeignBucket or
    UnsupportedFormat with one line, and other ``ObjectStoreError``."""
    with attributed(Cause.START):
        await _claim(objects, cluster_id)


async def _claim(objects: ObjectStore, cluster_id: str) -> None:
    marker = cluster_marker(cluster_id)
    try:
        _, found = await objects.get(CLUSTER_MARKER)
    except NotFound:
        await require_usable(objects)
    else:
        return check_cluster_marker(bytes(found), cluster_id)
    try:
        await objects.put(CLUSTER_MARKER, marker, size_bytes=len(marker), if_absent=True)
    except PreconditionFailed:
        _, found = await objects.get(CLUSTER_MARKER)
        check_cluster_marker(bytes(found), cluster_id)


async def claim_at_start(
    objects: ObjectStore, url: str, cluster_id: str, has_tier: Callable[[], Awaitable[bool]]
) -> bool:
    """Whether the bucket is known to be ours; False if it does not answer, or denies access to a cluster that has data in
    the tier. Raises UserError."""
    refused: Exception
    try:
        async with asyncio.timeout(CLAIM_TIMEOUT_S):
            await claim_bucket(objects, cluster_id)
        return True
    except (Misconfigured, ForeignBucket, UnsupportedFormat) as error:
        raise UserError(f"{OBJECT_STORE}={without_query(url)}: {error}") from error
    except AccessDenied as error:
        if not await has_tier():
            raise UserError(f"{OBJECT_STORE}={without_query(url)}: access denied: {error}") from error
        refused = error
    except TimeoutError:
        refused = TimeoutError(why_no_answer(url, objects))
        # The timeout came from looking for a machine's role: without one, waiting longer is in vain.
        if has_no_credentials(url) and not await has_tier():
            raise UserError(f"{OBJECT_STORE}={without_query(url)}: access denied: {refused}") from None
    except ObjectStoreError as error:
        refused = error
    # Produce and local reads must not depend on the bucket. Nothing is written to it before the marker was checked.
    logger.error("the object store does not answer", why=str(refused))
    return False


async def log_findings(url: str, accounts: Accounts) -> None:
    """Looks at a bucket once and logs what is wrong with it; nothing waits for this. Its requests are counted."""
    if parse_address(url).scheme not in ("s3", "gs"):
        return
    try:
        with attributed(Cause.START):
            findings = await examined(url, accounts=accounts)
    except (TieringError, OSError) as error:
        logger.warning("the bucket could not be examined", why=str(error))
        return
    for finding in findings:
        if finding.level != "ok":
            log = logger.error if finding.level == "error" else logger.warning
            log("bucket finding", check=finding.check, finding=finding.line)
    logger.info("bucket examined", checks=[f"{f.check}: {f.level}" for f in findings])


def classes_in(tiers: Iterable[Rung]) -> list[StorageClass]:
    """The storage classes that a ladder names."""
    return [CLASS_OF[rung.name] for rung in tiers if rung.name != LOCAL]


async def examined(
    url: str, cluster_id: str = "", tiers: Iterable[Rung] = (), accounts: Accounts | None = None
) -> list[Finding]:
    """What is right and wrong with the object store, for a cluster (empty: not known) and the ladder that its topics have by
    default. Raises OSError where no process can be started."""
    return await examine(url, Wanted(cluster_id, classes_in(tiers)), accounts)
