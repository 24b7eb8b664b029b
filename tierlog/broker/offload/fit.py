"""Checks, before the start writes anything, that this broker's config fits the tier that the metadata store knows.

* The tier is switched off (``remote.log.storage.system.enable=false``) while topics have data in it: the start is refused.
  Their tiered offsets would read as if they had never existed, and nobody would own the objects.
* The bucket has the marker of another cluster: the start is refused. So it is if it has none, and ignores conditions or
  refuses deletes: an object is written, and deleted again, to see that. (A directory is tried when it is claimed.)
* This machine's clock is a quarter of an hour or more from that of the bucket: the start is refused.
* Topics have data in the tier, but the bucket has no marker, or no object of a few sampled partitions: this is not the
  bucket or prefix that was written to, so the start is refused. A bucket that does not answer is accepted: local data is
  served without it. So is one that denies access, once a topic has a tier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import Enum, auto

import structlog

from tiering.doctor.clock import skew_findings
from tiering.doctor.first_use import require_classes, require_usable
from tiering.doctor.server_date import endpoint_of, server_date
from tiering.errors import (
    AccessDenied,
    ForeignBucket,
    Misconfigured,
    NotFound,
    ObjectStoreError,
    TieringError,
    UnsupportedFormat,
)
from tiering.head_codec import decode_head
from tiering.keys import CLUSTER_MARKER, PartitionKeys, check_cluster_marker
from tiering.ledger.rows import Cause
from tiering.metering.attribution import attributed
from tiering.model import TierHead
from tiering.objects.measured import StoreStats as StoreStats
from tiering.objects.opening import open_store, parse_address
from tiering.objects.port import ObjectStore
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.offload.bucket import CLAIM_TIMEOUT_S, classes_in, why_no_answer
from tierlog.config.places import OBJECT_STORE, without_query
from tierlog.config.tiers import Rung
from tierlog.errors import UserError
from tierlog.metadata import keys
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.keys import PartitionKey
from tierlog.metadata.stores.port import MetadataStore

SYSTEM_ENABLE = "remote.log.storage.system.enable"
SAMPLE = 3
NAMES_BYTES_MAX = 200

logger = structlog.get_logger()

Heads = dict[PartitionKey, TierHead]


class Bucket(Enum):
    """The result of a look at the bucket."""

    OURS = auto()
    WITHOUT_MARKER = auto()
    NOT_KNOWN = auto()  # access denied, which a store may also answer for a missing object


async def heads_with_data(
    store: MetadataStore, image: MetadataImage, limit: int | None = None, *, in_own_store: bool = False
) -> Heads:
    """The heads of existing topics that name any data; at most about ``limit``. ``in_own_store``: only of topics that have
    no store of their own. Raises StoreUnavailable."""
    found: Heads = {}
    cursor: str | None = None
    while True:
        page = await store.range(keys.TIER_HEADS, cursor=cursor)
        for kv in page.kvs:
            key = keys.parse_partition(kv.key, keys.TIER_HEADS)
            try:
                head = decode_head(kv.value, kv.key)
            except TieringError:
                continue  # reported where the head is used
            record = image.record_of(key.topic_id) if key.topic_id in image.topics_by_id else None
            if record is not None and head.start < head.end and not (in_own_store and record.store):
                found[key] = head
        cursor = page.cursor
        if cursor is None or (limit is not None and len(found) >= limit):
            return found


async def require_no_tier(store: MetadataStore, image: MetadataImage) -> None:
    """The check for a broker without a tier. Raises UserError if topics have data in one."""
    heads = await heads_with_data(store, image)
    if heads:
        raise UserError(
            f"{SYSTEM_ENABLE}=false: {of_topics(image, heads)} in the tier, which would read as lost; set "
            f"{SYSTEM_ENABLE}=true and {OBJECT_STORE} as they were, or delete the topics first; nothing was changed"
        )


async def require_the_bucket(
    url: str,
    cluster_id: str | None,
    store: MetadataStore | None,
    image: MetadataImage | None,
    tiers: Iterable[Rung] = (),
    stats: StoreStats | None = None,
    *,
    is_tried: bool = False,
) -> bool:
    """Whether the bucket answers. ``cluster_id``, ``store`` and ``image`` are None for a cluster that is yet to be made.
    ``tiers``: the ladder that topics have by default; whether the bucket has its classes is tried at a first start.
    ``is_tried``: what the bucket does, and what time it is there, was seen a moment ago.

    Raises UserError if the bucket is another cluster's, or not the one that holds the data of this cluster's topics."""
    heads: Heads = {}
    if store is not None and image is not None:
        heads = await heads_with_data(store, image, SAMPLE, in_own_store=True)
    where = f"{OBJECT_STORE}={without_query(url)}"
    try:
        objects = open_store(url, writes=False, stats=stats)
    except TieringError as error:
        raise UserError(f"{where}: {error}") from error
    try:
        with attributed(Cause.START):
            async with asyncio.timeout(CLAIM_TIMEOUT_S):
                bucket = await _look(objects, cluster_id, has_tier=store is not None)
                is_free = bucket is Bucket.WITHOUT_MARKER and not heads
                if is_free and not is_tried and endpoint_of(parse_address(url)):
                    await require_usable(objects)
                    await require_classes(objects, classes_in(tiers))
                lacks_all = bucket is Bucket.OURS and await _lacks_all(objects, cluster_id or "", heads)
    except Misconfigured as error:
        raise UserError(f"{where}: {error}") from error
    except AccessDenied as error:
        raise UserError(f"{where}: access denied: {error}; nothing was changed") from error
    except (ForeignBucket, UnsupportedFormat) as error:
        raise UserError(f"{where}: {error}; name the bucket and prefix of this cluster") from error
    except (TimeoutError, OSError, ObjectStoreError) as error:
        logger.error("the object store does not answer", why=str(error) or why_no_answer(url, objects))
        return False
    finally:
        await objects.close()
    if not is_tried:
        await _require_the_time(url)
    if heads and image is not None and (bucket is Bucket.WITHOUT_MARKER or lacks_all):
        raise UserError(
            f"{where}: is not where the tier lies: {of_topics(image, heads)} in it, and nothing of it is found there; name "
            "the bucket and prefix that were written to, or copy their objects here first; nothing was changed"
        )
    return True


async def _require_the_time(url: str) -> None:
    """Raises UserError where this machine's clock is so far from the bucket's that requests are refused, and that what goes
    by its age would go at the wrong time."""
    endpoint = endpoint_of(parse_address(url))
    if not endpoint:
        return
    try:
        async with asyncio.timeout(CLAIM_TIMEOUT_S):
            date = await asyncio.to_thread(server_date, endpoint)
    except TimeoutError:
        return  # a name that takes long to be resolved; the doctor says what is wrong there
    for found in skew_findings(wall_clock_ms(), date):
        if found.level == "error":
            raise UserError(f"{OBJECT_STORE}={without_query(url)}: {found.line}; nothing was changed")
        if found.level == "warning":
            logger.warning("bucket finding", check=found.check, finding=found.line)


async def _look(objects: ObjectStore, cluster_id: str | None, *, has_tier: bool) -> Bucket:
    """Raises AccessDenied only while no topic has a tier: later, local data is served without the bucket."""
    try:
        _, found = await objects.get(CLUSTER_MARKER)
    except NotFound:
        return Bucket.WITHOUT_MARKER
    except AccessDenied:
        if not has_tier:
            raise
        return Bucket.NOT_KNOWN
    check_cluster_marker(bytes(found), cluster_id or "none yet")
    return Bucket.OURS


async def _lacks_all(objects: ObjectStore, cluster_id: str, heads: Heads) -> bool:
    """Whether the bucket holds no object of a few partitions that have heads; one object proves that it is the right one."""
    sample = [PartitionKeys(cluster_id, *key) for key in heads][:SAMPLE]
    try:
        for partition in sample:
            for prefix in (partition.meta_prefix, partition.segments_prefix):
                if await objects.list(prefix, limit=1):
                    return False
    except AccessDenied:
        return False
    return bool(sample)


def of_topics(image: MetadataImage, heads: Iterable[PartitionKey]) -> str:
    """The phrase "topics a, b and 3 more have data", with a bounded length."""
    names = sorted({image.topics_by_id[key.topic_id].name for key in heads})
    shown: list[str] = []
    for name in names:
        if shown and sum(map(len, shown)) + len(name) > NAMES_BYTES_MAX:
            break
        shown.append(name)
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    noun, verb = ("topic", "has") if len(names) == 1 else ("topics", "have")
    return f"{noun} {', '.join(shown)}{more} {verb} data"
