"""Is this bucket ours, and is it fit for us?

Credentials come from where AWS's own tools take them: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, web identity,
the container's or the machine's role, or the ``profile`` that the URL of ``tierlog.object.store`` names. Never from the
URL, which is shown: the config refuses them there.

The marker is looked at before this broker writes anything anywhere (``fit``), and put before anything else is
written to the bucket. A bucket that refuses this broker is an error of its
configuration as long as the cluster has nothing in the tier; later the hot data is served all the same.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import structlog

from tiering.errors import (
    AccessDenied,
    ForeignBucket,
    Misconfigured,
    ObjectStoreError,
    PreconditionFailed,
    TieringError,
    UnsupportedFormat,
)
from tiering.keys import CLUSTER_MARKER, check_cluster_marker, cluster_marker
from tiering.objects.opening import parse_address, s3_config
from tiering.objects.port import ObjectStore
from tiering.objects.retrying import last_failure
from tiering.objects.s3.advice import missing_credentials
from tierlog.errors import UserError

logger = structlog.get_logger()

PROPERTY = "tierlog.object.store"
CLAIM_TIMEOUT_S = 5.0


def without_query(url: str) -> str:
    """The URL as it may be shown."""
    return url.partition("?")[0]


def url_problem(url: str) -> str | None:
    """What is wrong with the URL as it is written, before anything is opened."""
    try:
        address = parse_address(url)
        if address.scheme == "s3":
            s3_config(address)
    except TieringError as error:
        return str(error)
    return None


def why_no_answer(url: str, objects: ObjectStore) -> str:
    """Why there was none in time, as far as it is known."""
    failure = last_failure(objects)
    if failure is not None:
        return str(failure)
    return has_no_credentials(url) or f"no answer within {CLAIM_TIMEOUT_S:.0f} s"


def has_no_credentials(url: str) -> str | None:
    """Which are missing, in a sentence."""
    address = parse_address(url)
    return missing_credentials(s3_config(address), os.environ) if address.scheme == "s3" else None


async def claim_bucket(objects: ObjectStore, cluster_id: str) -> None:
    """Puts our marker into an empty bucket. Raises ForeignBucket or UnsupportedFormat with one line."""
    marker = cluster_marker(cluster_id)
    try:
        await objects.put(CLUSTER_MARKER, marker, size_bytes=len(marker), if_absent=True)
    except PreconditionFailed:
        _, found = await objects.get(CLUSTER_MARKER)
        check_cluster_marker(bytes(found), cluster_id)


async def claim_at_start(
    objects: ObjectStore, url: str, cluster_id: str, has_tier: Callable[[], Awaitable[bool]]
) -> bool:
    """Whether the bucket is known to be ours; False where it does not answer. Raises UserError."""
    refused: Exception
    try:
        async with asyncio.timeout(CLAIM_TIMEOUT_S):
            await claim_bucket(objects, cluster_id)
        return True
    except (Misconfigured, ForeignBucket, UnsupportedFormat) as error:
        raise UserError(f"{PROPERTY}={without_query(url)}: {error}") from error
    except AccessDenied as error:
        if not await has_tier():
            raise UserError(f"{PROPERTY}={without_query(url)}: access denied: {error}") from error
        refused = error
    except TimeoutError:
        refused = TimeoutError(why_no_answer(url, objects))
        # Whoever waits for a machine's role that it has not, waits for nothing.
        if has_no_credentials(url) and not await has_tier():
            raise UserError(f"{PROPERTY}={without_query(url)}: access denied: {refused}") from None
    except ObjectStoreError as error:
        refused = error
    # Produce and hot reads must not depend on it. Nothing is written to it before the marker was checked.
    logger.error("the object store does not answer", why=str(refused))
    return False


async def log_preflight(url: str) -> None:
    """Looks at an S3 bucket once and says what is wrong with it; nothing waits for this."""
    address = parse_address(url)
    if address.scheme != "s3":
        return
    from tiering.objects.s3.preflight_process import preflight_apart

    try:
        findings = await preflight_apart(s3_config(address))
    except (TieringError, OSError) as error:
        logger.warning("the bucket could not be checked", why=str(error))
        return
    for finding in findings:
        if finding.level != "ok":
            log = logger.error if finding.level == "error" else logger.warning
            log("bucket preflight", check=finding.check, finding=finding.message)
    logger.info("bucket preflight done", checks=[f"{f.check}: {f.level}" for f in findings])
