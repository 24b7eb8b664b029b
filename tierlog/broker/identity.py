"""Checks that log directories, node id, cluster id, metadata store and bucket belong together, before anything is written.

Rules:

* A mismatch is refused in one line that says what to do, and nothing was changed: no file of a log directory but the
  lock, no key of the metadata store, no object of the bucket. What had to be created for the check is removed again.
* A metadata store without a cluster is taken for the wrong one (a typo, a volume that is not mounted) as long as the
  directories belong to a cluster, unless ``tierlog.metadata.store.accept.empty`` says otherwise.
* New directories beside known ones are legal, and so are new directories alone: a broker may have lost its disks.
* Brokers of a new cluster may start at once: what does not fit while there is no cluster yet is compared again once another
  broker has made one.
* New directories get their ``meta.properties`` after these checks and before any log is made in them, so that a directory
  with logs always says whose they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

import structlog

from tierlog.broker.cluster.metadata_feed import MetadataFeed
from tierlog.broker.cluster.metadata_store import open_metadata_store, sqlite_path
from tierlog.broker.cluster.patience import patiently
from tierlog.broker.cluster.registration import new_cluster_id
from tierlog.broker.disk.log_dirs import LogDir, open_log_dirs, require_one
from tierlog.broker.work.background import Background
from tierlog.config.broker import BrokerConfig
from tierlog.errors import DiskFull, StorageError, UserError
from tierlog.metadata import keys, records
from tierlog.metadata.commits import found_cluster
from tierlog.metadata.features import explain_gap, supported_ranges
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.records import BrokerRegistration
from tierlog.metadata.stores.port import MetadataStore

ACCEPT_EMPTY = "tierlog.metadata.store.accept.empty"

if TYPE_CHECKING:
    from tierlog.broker.offload.fit import StoreStats

logger = structlog.get_logger()


class Stored(NamedTuple):
    """What the metadata store says; all None where there is no store yet. ``registration``: the one under our node id."""

    cluster_id: str | None = None
    registration: BrokerRegistration | None = None
    store: MetadataStore | None = None
    image: MetadataImage | None = None
    was_compared: bool = False
    """Without a metadata store, a moment ago: the bucket is not tried again."""


class Established(NamedTuple):
    """All that a start has opened and checked. ``bucket_answers``: the bucket answered, or none was needed."""

    log_dirs: list[LogDir]
    store: MetadataStore
    feed: MetadataFeed
    image_load_ms: int
    bucket_answers: bool
    store_stats: StoreStats | None
    """What was counted of the object store so far; None for a broker that has none."""


async def establish(
    config: BrokerConfig,
    background: Background,
    on_failure: Callable[[BaseException], None],
) -> Established:
    """Locks the log directories, opens the metadata store, loads the image, compares, and claims new directories. Raises
    UserError or DiskFull, and then leaves nothing open."""
    stats = _store_stats(config)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as opened:
        log_dirs = open_log_dirs(config.log_dirs, config.tierlog_disk_reserve_bytes)
        for log_dir in log_dirs:
            opened.callback(log_dir.close)
        is_new = not is_there(config)
        if is_new:
            # Opening the store would create it.
            try:
                await compare(config, log_dirs, Stored(), stats)
            except UserError:
                if not is_there(config):
                    raise
                is_new = False
        store = await open_metadata_store(config)
        opened.push_async_callback(store.close)
        feed = MetadataFeed(store, background=background, on_failure=on_failure)
        began_s = loop.time()
        await feed.start()
        opened.push_async_callback(feed.close)
        image_load_ms = round(1000 * (loop.time() - began_s))
        known = feed.image.brokers.get(config.node_id)
        registration = known.registration if known is not None else None
        stored = Stored(feed.image.cluster_id, registration, store, feed.image, was_compared=is_new)
        try:
            bucket_answers = await compare(config, log_dirs, stored, stats)
        except UserError:
            made = await patiently(lambda: store.get(keys.CLUSTER), "to look for a cluster")
            if stored.cluster_id is not None or made is None:
                raise
            stored = stored._replace(cluster_id=records.decode_cluster_id(made.value))
            bucket_answers = await compare(config, log_dirs, stored, stats)
        wanted = expected_cluster(config, log_dirs)
        cluster_id = await patiently(
            lambda: find_cluster_id(store, feed.image, wanted), "to join the cluster"
        )
        claim(log_dirs, cluster_id, config.node_id)
        opened.pop_all()
    return Established(log_dirs, store, feed, image_load_ms, bucket_answers, stats)


def _store_stats(config: BrokerConfig) -> StoreStats | None:
    """Only a broker with an object store pays for the import."""
    if not config.remote_log_storage_system_enable:
        return None
    from tierlog.broker.offload.fit import StoreStats

    return StoreStats()


def is_there(config: BrokerConfig) -> bool:
    """Whether the metadata store exists already, as far as that can be told without opening it."""
    path = sqlite_path(config)
    return path is None or (path.exists() and path.stat().st_size > 0)


# -- comparing


async def compare(
    config: BrokerConfig, log_dirs: Sequence[LogDir], stored: Stored, stats: StoreStats | None
) -> bool:
    """Whether the bucket answers, or none is needed. Raises UserError where something does not fit."""
    check_directories(config, log_dirs)
    check_store(config, log_dirs, stored)
    check_node_id(config, log_dirs, stored)
    check_features(stored)
    return await check_tier(config, stored.cluster_id or expected_cluster(config, log_dirs), stored, stats)


async def check_tier(
    config: BrokerConfig, cluster_id: str | None, stored: Stored, stats: StoreStats | None
) -> bool:
    """See ``offload.fit``. Only a broker with an object store, or a cluster with a tier, pays for the import."""
    store = stored.store
    has_heads = store is not None and bool(
        (await patiently(lambda: store.range(keys.TIER_HEADS, limit=1), "to look for tiers")).kvs
    )
    if config.remote_log_storage_system_enable:
        from tierlog.broker.offload.fit import require_the_bucket

        return await require_the_bucket(
            config.tierlog_object_store,
            cluster_id,
            stored.store if has_heads else None,
            stored.image,
            config.topic_defaults.tierlog_tiers,
            stats,
            is_tried=stored.was_compared,
        )
    if has_heads and stored.store is not None and stored.image is not None:
        from tierlog.broker.offload.fit import require_no_tier

        await require_no_tier(stored.store, stored.image)
    return True


def check_directories(config: BrokerConfig, log_dirs: Sequence[LogDir]) -> None:
    """Checks that all directories are this broker's and belong to one cluster."""
    first: LogDir | None = None
    for log_dir in log_dirs:
        if log_dir.node_id is not None and log_dir.node_id != str(config.node_id):
            raise UserError(
                f"log.dirs: {log_dir.path} belongs to node.id {log_dir.node_id}, this is {config.node_id}; set "
                f"node.id={log_dir.node_id}, or name the directories of {config.node_id}; nothing was changed"
            )
        if log_dir.cluster_id is None:
            continue
        first = first or log_dir
        if log_dir.cluster_id != first.cluster_id:
            raise UserError(
                f"log.dirs: {first.path} belongs to cluster {first.cluster_id}, {log_dir.path} to cluster "
                f"{log_dir.cluster_id}; name directories of one cluster only; nothing was changed"
            )
    wanted = config.tierlog_cluster_id
    if first is not None and wanted is not None and first.cluster_id != wanted:
        raise UserError(
            f"tierlog.cluster.id={wanted}: the log directory {first.path} belongs to cluster {first.cluster_id}; leave "
            "the property out, or name other directories; nothing was changed"
        )


def check_store(config: BrokerConfig, log_dirs: Sequence[LogDir], stored: Stored) -> None:
    """Checks that the metadata store belongs to the cluster that the directories name."""
    expected = expected_cluster(config, log_dirs)
    owned = next((log_dir for log_dir in log_dirs if log_dir.cluster_id is not None), None)
    if stored.cluster_id is None:
        if owned is not None and not config.tierlog_metadata_store_accept_empty:
            raise UserError(
                f"metadata.store={config.metadata_store}: is empty, and the log directory {owned.path} belongs to cluster "
                f"{owned.cluster_id}; name the store of that cluster (is its volume mounted?), or begin with an empty one, "
                f"and all logs set aside, by {ACCEPT_EMPTY}=true; nothing was changed"
            )
    elif expected is not None and expected != stored.cluster_id:
        what = (
            f"the log directory {owned.path} belongs" if owned else "tierlog.cluster.id says that we belong"
        )
        raise UserError(
            f"metadata.store={config.metadata_store}: is of cluster {stored.cluster_id}, but {what} to cluster {expected}; "
            "point metadata.store at the right store, or log.dirs at the right directories; nothing was changed"
        )


def check_node_id(config: BrokerConfig, log_dirs: Sequence[LogDir], stored: Stored) -> None:
    """Checks that no other broker runs under our node id: a registration that names none of our directories is another's."""
    other = stored.registration
    if other is None or {log_dir.directory_id for log_dir in log_dirs if log_dir.is_online} & set(other.dirs):
        return
    where = ", ".join(f"{e.host}:{e.port}" for e in other.endpoints)
    raise UserError(
        f"broker id {config.node_id} is taken by a running broker at {where}; stop that one, wait "
        f"{config.broker_session_timeout_ms} ms if it died on another machine, or choose another node.id"
    )


def check_features(stored: Stored) -> None:
    """Checks that this version may run at the cluster's feature levels."""
    if stored.image is None or stored.cluster_id is None:
        return
    levels = stored.image.features
    gap = levels.first_gap(supported_ranges())
    if gap is not None:
        raise UserError(f"{explain_gap(levels, *gap)}; nothing was changed")


def expected_cluster(config: BrokerConfig, log_dirs: Sequence[LogDir]) -> str | None:
    """The cluster id that the directories name, else the configured one."""
    return next((d.cluster_id for d in log_dirs if d.cluster_id is not None), config.tierlog_cluster_id)


# -- claiming


async def find_cluster_id(store: MetadataStore, image: MetadataImage, wanted: str | None) -> str:
    """The store's cluster id, or a new one that is put there. Raises UserError where another broker has just put a
    different one."""
    if image.cluster_id is not None:
        return image.cluster_id
    new = wanted or new_cluster_id()
    result = await store.txn(found_cluster(new))
    kv = None if result.ok else result.gets[0]
    found = new if kv is None else records.decode_cluster_id(kv.value)
    if wanted is not None and found != wanted:
        raise UserError(
            f"metadata.store: another broker has just made it the store of cluster {found}, this one belongs to {wanted}; "
            "point both at the right store"
        )
    return found


def claim(log_dirs: Sequence[LogDir], cluster_id: str, node_id: int) -> None:
    """Writes ``meta.properties`` into the directories. Raises UserError where none is left online, and DiskFull."""
    for log_dir in log_dirs:
        if log_dir.is_online:
            log_dir.begin()
            try:
                log_dir.identify(cluster_id, node_id)
            except DiskFull:
                raise
            except StorageError as error:
                log_dir.fail(error)
    require_one(log_dirs)
