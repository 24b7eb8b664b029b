"""All of the remote tier in one piece, for the node to open, start and close.

Call ``open`` after the registration (which yields the cluster id and the broker epoch) and before the broker asks to be
unfenced; ``start`` once it may lead; ``close`` before the metadata store is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from tiering.disk_cache.cache import DiskCache
from tiering.errors import TieringError
from tiering.keys import topic_of
from tiering.manifest import Manifests, ManifestWorker
from tiering.metering.meta_sizes import MetaSizes
from tiering.objects.measured import StoreStats
from tiering.objects.opening import class_names_of, open_store
from tiering.objects.port import ObjectStore
from tiering.objects.throttled import ThrottledStore, TokenBucket
from tiering.reading.lookups import RemoteLookups
from tiering.reading.reader import RemoteReader
from tierlog import kernel
from tierlog.broker.clock import monotonic_ms
from tierlog.broker.cluster.controller_client import ControllerClient
from tierlog.broker.cluster.patience import patiently
from tierlog.broker.cluster.registration import Registration
from tierlog.broker.network.client_traffic import ClientTraffic
from tierlog.broker.offload import observed, request_metrics
from tierlog.broker.offload.bucket import (
    claim_at_start,
    claim_bucket,
    log_findings,
)
from tierlog.broker.offload.cleaning.purge import TopicPurge
from tierlog.broker.offload.cleaning.sweeper import Budget, Sweeper
from tierlog.broker.offload.cleaning.uploads import LeftUploads
from tierlog.broker.offload.copiers import Copiers
from tierlog.broker.offload.driver import Offload
from tierlog.broker.offload.heads import HeadStore
from tierlog.broker.offload.lead_check import LeadCheck
from tierlog.broker.offload.ledger.ledger import Ledger
from tierlog.broker.offload.ledger.old_objects import OldObjects
from tierlog.broker.offload.ledger.opening import open_ledger
from tierlog.broker.offload.ledger.sources import RequestRows
from tierlog.broker.offload.mending import Mending
from tierlog.broker.offload.reading.disk_cache import DeadEntries, open_disk_cache
from tierlog.broker.offload.reading.followed import FollowedTiers
from tierlog.broker.offload.reading.followed_views import FollowedViews
from tierlog.broker.offload.reading.reads import TierReads
from tierlog.broker.offload.recovery import reconcile_log, reconcile_logs
from tierlog.broker.offload.sealing import Sealing
from tierlog.broker.offload.stores.admission import StoreAdmission
from tierlog.broker.offload.stores.by_topic import StoreByTopic
from tierlog.broker.offload.stores.topic_stores import TopicStores
from tierlog.broker.offload.work import Mend, TierWork
from tierlog.broker.replicas.hosted import Replicas
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.background import Background, Kept
from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of
from tierlog.config.broker import BrokerConfig
from tierlog.config.places import OBJECT_STORE, without_query
from tierlog.errors import UserError
from tierlog.metadata import keys
from tierlog.metadata.features import TIER_FORMAT
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.stores.port import MetadataStore
from tierlog.telemetry.metrics import Registry
from tierlog.telemetry.tier_counters import TierCounters

logger = structlog.get_logger()

INDEX_CACHE_BYTES_MAX = 32 << 20
CRC_CHUNK_BYTES = 1 << 20
CLAIM_RETRY_S = 5.0
UNLIMITED = 2**63 - 1
TASKS_PER_LADDER_PASS = 20
"""Ages are in days: ten minutes between two passes are soon enough."""


class Tiering:
    """The object store, the jobs that fill it, and the reads from it."""

    def __init__(
        self,
        config: BrokerConfig,
        own_store: ObjectStore,
        stats: StoreStats,
        store: MetadataStore,
        image: Callable[[], MetadataImage],
        registration: Registration,
        replicas: Replicas,
        admin: ControllerClient,
        registry: Registry,
        now_ms: Callable[[], int],
        background: Background,
        on_tiered: Callable[[Partition], object],
        seal: Callable[[Partition], object],
        disk_cache: DiskCache | None,
        client_traffic: ClientTraffic,
    ) -> None:
        self._background, self._tasks = background, list[Kept]()
        self._cluster_id = cluster_id = registration.cluster_id
        self.stores = stores_of(config, own_store, stats, image, cluster_id)
        self.objects = objects = throttled(config, StoreByTopic(own_store, self.stores.of))
        self.accounts, self._image = stats.accounts, image
        self.counters = TierCounters(registry)
        self.heads = _heads(config.node_id, store, image, registration)
        self.worker = ManifestWorker()
        self.manifests = Manifests(objects, self.worker)
        self.mover = Copiers(config, self.stores, own_store, objects, stats, registry, now_ms)
        self.reader = reader_of(config, objects, disk_cache)
        observed.register(registry, stats, self.reader)
        self._open_disk_cache(config, disk_cache, registry, image, replicas)
        self.views = FollowedViews(cluster_id, self.heads, self.manifests, self.counters, background)
        observed.register_views(registry, self.views)
        self.reads = TierReads(self.reader, self.views)
        listener, max_frame_bytes = config.inter_broker_listener_name, config.socket_request_max_bytes
        mending = Mending(config.node_id, listener, max_frame_bytes, image, replicas, now_ms)
        self.work = self._make_work(config, now_ms, on_tiered, mending.mend)
        self.offload = Offload(
            self.work,
            self.heads,
            cluster_id,
            self.counters,
            background,
            now_ms=now_ms,
            check_interval_ms=config.remote_log_manager_task_interval_ms,
            sweep_interval_ms=config.tierlog_remote_sweep_interval_ms,
            is_own_store=self.stores.is_own,
        )
        self.admission = StoreAdmission(self.stores, store, image(), lambda: self.offload.is_bucket_ours)
        self._open_cleaning(config, store, image, registration, admin, now_ms)
        self.sealing = Sealing(lambda: self.offload.tiers, seal, now_ms)
        interval_ms = config.remote_log_manager_task_interval_ms
        self.followed = FollowedTiers(replicas, self.heads, self.views, interval_ms)
        roles = replicas.roles
        self.lead_check = LeadCheck(
            config.node_id, image, self._reconcile, lambda each: roles.apply_all([each]), background
        )
        self._lookups, self._url = RemoteLookups(self.reader), config.tierlog_object_store
        self._replicas, self._now_ms = replicas, now_ms
        self.ledger = self._open_ledger(config, client_traffic, registry, stats, registration)

    def _open_cleaning(
        self,
        config: BrokerConfig,
        store: MetadataStore,
        image: Callable[[], MetadataImage],
        registration: Registration,
        admin: ControllerClient,
        now_ms: Callable[[], int],
    ) -> None:
        budget = Budget(config.tierlog_remote_sweep_requests_per_hour, now_ms)
        self.sweeper = Sweeper(
            self.stores,
            self.work.deletes,
            lambda: filter(self.offload.may_write, self.offload.tiers),
            budget,
            now_ms,
            self.offload.failed,
        )
        self.left_uploads = LeftUploads(
            self.stores,
            budget,
            lambda: self.offload.is_bucket_ours and _is_controller(image(), registration),
            now_ms,
        )
        self._old_objects = OldObjects(
            self._cluster_id,
            self.objects,
            lambda: self.offload.is_bucket_ours and _is_controller(image(), registration),
            now_ms,
        )
        self.purge = TopicPurge(
            self.stores,
            store,
            image,
            self._cluster_id,
            admin.confirm_tier_dropped,
            is_mine=partial(_is_mine, image, registration),
            now_ms=now_ms,
            delete_grace_ms=config.tierlog_remote_delete_grace_ms,
        )

    def _open_ledger(
        self,
        config: BrokerConfig,
        client_traffic: ClientTraffic,
        registry: Registry,
        stats: StoreStats,
        registration: Registration,
    ) -> Ledger | None:
        if not config.tierlog_ledger_enable:
            return None
        loop = asyncio.get_running_loop()
        return open_ledger(
            config,
            self._cluster_id,
            self.objects,
            self.worker.encode_ledger,
            self._replicas,
            self.offload.tier_of,
            client_traffic,
            registry,
            self._background,
            sizes=stats.meta_sizes or MetaSizes(),
            is_controller=partial(_is_mine, self._image, registration),
            further=[RequestRows(self.accounts, self.topic_name)],
            may_write=lambda: self.offload.is_bucket_ours,
            monotonic_ms=lambda: monotonic_ms(loop),
        )

    def _open_disk_cache(
        self,
        config: BrokerConfig,
        disk_cache: DiskCache | None,
        registry: Registry,
        image: Callable[[], MetadataImage],
        replicas: Replicas,
    ) -> None:
        self._disk_cache = disk_cache
        self._dead_entries: DeadEntries | None = None
        if disk_cache is not None:
            observed.register_disk_cache(registry, disk_cache)
            interval_ms = config.remote_log_manager_task_interval_ms
            self._dead_entries = DeadEntries(disk_cache, config.node_id, image, replicas, interval_ms)
            replicas.long_lived.settle()  # its entries may be many

    def _configure(self, config: BrokerConfig) -> None:
        """Applies the settings that may change while the broker runs."""
        upload, download = rates_of(config)
        self.objects.set_rates(upload, 0)
        self.reader.set_rate(download)
        self.reader.resize_footers(footer_cache_bytes(config))
        self._old_objects.configure(config)

    def _make_work(
        self,
        config: BrokerConfig,
        now_ms: Callable[[], int],
        on_tiered: Callable[[Partition], object],
        mend_segment: Mend,
    ) -> TierWork:
        return TierWork(
            self.objects,
            self.stores,
            self.heads,
            self.manifests,
            self.mover,
            now_ms=now_ms,
            delete_grace_ms=config.tierlog_remote_delete_grace_ms,
            copies_at_once=config.tierlog_upload_concurrency,
            ladder_interval_ms=TASKS_PER_LADDER_PASS * config.remote_log_manager_task_interval_ms,
            on_tiered=on_tiered,
            mend_segment=mend_segment,
        )

    @classmethod
    async def open(
        cls,
        config: BrokerConfig,
        stats: StoreStats,
        store: MetadataStore,
        image: Callable[[], MetadataImage],
        registration: Registration,
        replicas: Replicas,
        admin: ControllerClient,
        registry: Registry,
        now_ms: Callable[[], int],
        background: Background,
        *,
        on_tiered: Callable[[Partition], object],
        seal: Callable[[Partition], object],
        client_traffic: ClientTraffic,
        bucket_answers: bool = True,
    ) -> Tiering:
        """Opens the bucket, claims or checks it, and brings local logs in line with their tier. Raises UserError.
        ``on_tiered``: called when more of a partition's log is in the bucket. ``seal``: rolls a partition's log."""
        url, own_store = config.tierlog_object_store, _own_store(config, stats)
        try:
            is_claimed = bucket_answers and await claim_at_start(
                own_store, url, registration.cluster_id, partial(_has_tier, store)
            )
            disk_cache = await open_disk_cache(config, registration.cluster_id)
        except UserError:
            await own_store.close()
            raise
        self = cls(
            config,
            own_store,
            stats,
            store,
            image,
            registration,
            replicas,
            admin,
            registry,
            now_ms,
            background,
            on_tiered,
            seal,
            disk_cache,
            client_traffic,
        )
        replicas.follow_config(self._configure)
        request_metrics.register(registry, stats.accounts, self.topic_name)
        observed.register_tiers(registry, lambda: self.offload.tiers, lambda: self.purge.waiting)
        put_off = await reconcile_logs(
            replicas, registration.cluster_id, self.heads, self.manifests, self._lookups, now_ms
        )
        self.lead_check.put_off(put_off)
        self.offload.is_bucket_ours = is_claimed
        replicas.observers.append(self.offload)
        return self

    def topic_name(self, topic_id: str) -> str:
        """Of a topic id as in keys; empty for a topic that is gone, and whose tombstone is."""
        found = topic_of(f"//{topic_id}")
        record = self._image().record_of(found) if found is not None else None
        return record.name if record is not None else ""

    async def start_follower(self, partition: Partition) -> int | None:
        """Begins a follower's log anew at the tiered end and returns that offset; None if the log is not behind, or the
        replica no longer a follower. Raises TieringError, StorageError, StoreUnavailable, CorruptSnapshot."""
        follower = partition.follower
        offset = await self._reconcile(
            partition,
            lambda: partition.follower is follower is not None and not partition.log.removals.are_held,
        )
        if offset is not None:
            partition.sync_cut()
        return offset

    async def _reconcile(self, partition: Partition, is_wanted: Callable[[], bool]) -> int | None:
        return await reconcile_log(
            partition,
            self._cluster_id,
            self.heads,
            self.manifests,
            self._lookups,
            self._now_ms(),
            is_wanted,
        )

    def start(self) -> None:
        """Starts to copy partitions and to purge deleted topics."""
        background = self._background
        self._tasks = [
            background.forever("offload", self.offload.run),
            background.forever("followed tiers", self.followed.run),
            background.forever("topic purge", self._claim_then_purge),
            background.forever("sealing by time", self.sealing.run),
            background.forever("tier sweeps", self.sweeper.run),
            background.forever("unfinished uploads", self.left_uploads.run),
            background.forever("ledger: old objects", self._old_objects.run),
            background.job("look at the bucket", lambda: log_findings(self._url, self.accounts), again=False),
        ]
        if self.ledger is not None:
            self.ledger.start()
        if self._disk_cache is not None and self._dead_entries is not None:
            self._tasks += [
                background.forever("disk cache", self._disk_cache.run),
                background.forever("disk cache: dead entries", self._dead_entries.run),
            ]

    async def _claim_then_purge(self) -> None:
        warnings = RepeatedWarnings()
        while not self.offload.is_bucket_ours:
            await asyncio.sleep(CLAIM_RETRY_S)
            try:
                await claim_bucket(self.objects, self._cluster_id)
                self.offload.is_bucket_ours = True
            except TieringError as error:
                kind = kind_of(error)
                warnings.say(logger.error, "the bucket cannot be used", kind, kind=kind, why=str(error))
        await self.purge.run()

    async def close(self) -> None:
        """Stops everything; the next start takes up or cleans up unfinished work."""
        for task in self._tasks:
            await task.stop()
        await self.lead_check.close()
        await self.offload.close()
        await self.views.close()
        await self.mover.close()
        self.reads.close()
        await self.reader.close()
        if self._disk_cache is not None:
            await self._disk_cache.close()
        if self.ledger is not None:
            await self.ledger.close()
        await self.worker.close()
        await self.objects.close()
        await self.stores.close()


def _own_store(config: BrokerConfig, stats: StoreStats) -> ObjectStore:
    """Of the configuration. Raises UserError."""
    url = config.tierlog_object_store
    if config.tierlog_ledger_enable:
        stats.meta_sizes = MetaSizes()
    try:
        return open_store(url, stats=stats)
    except TieringError as error:
        raise UserError(f"{OBJECT_STORE}={without_query(url)}: {error}") from error


async def _has_tier(store: MetadataStore) -> bool:
    page = await patiently(lambda: store.range(keys.TIER_HEADS, limit=1), "to look for tiers")
    return bool(page.kvs)


def _heads(
    node_id: int, store: MetadataStore, image: Callable[[], MetadataImage], registration: Registration
) -> HeadStore:
    return HeadStore(
        store,
        image,
        node_id,
        lambda: registration.broker_epoch,
        lambda: image().features.level(TIER_FORMAT),
    )


def stores_of(
    config: BrokerConfig,
    own: ObjectStore,
    stats: StoreStats,
    image: Callable[[], MetadataImage],
    cluster_id: str,
) -> TopicStores:
    """The stores of all topics, beside the brokers' own, which is open; all measured together."""

    def open_url(url: str, writes: bool) -> ObjectStore:
        return open_store(url, stats=stats, writes=writes)

    return TopicStores(config.tierlog_object_store, own, image, cluster_id, open_url, class_names_of)


def reader_of(
    config: BrokerConfig, objects: ObjectStore, disk_cache: DiskCache | None = None
) -> RemoteReader:
    """The reader with the caches that the configuration gives it."""
    return RemoteReader(
        objects,
        cache_bytes=max(config.tierlog_chunk_cache_memory_bytes, 2 * CRC_CHUNK_BYTES),
        footer_cache_bytes=footer_cache_bytes(config),
        chunk_bytes=config.tierlog_chunk_bytes,
        disk=disk_cache,
        whole_below=kernel.whole_below,
    )


def throttled(config: BrokerConfig, objects: ObjectStore) -> ThrottledStore:
    """The store, limited to the configured upload rate (KIP-956). The limit is outside the retries, whose attempts have a
    timeout. The fetch rate is the reader's, since it is a limit of segment data."""
    upload, _ = rates_of(config)
    return ThrottledStore(objects, upload=TokenBucket(upload), download=TokenBucket(0))


def rates_of(config: BrokerConfig) -> tuple[int, int]:
    """Upload and download rates in bytes per second; 0 means no limit."""
    copy = config.remote_log_manager_copy_max_bytes_per_second
    fetch = config.remote_log_manager_fetch_max_bytes_per_second
    return (0 if copy == UNLIMITED else copy, 0 if fetch == UNLIMITED else fetch)


def footer_cache_bytes(config: BrokerConfig) -> int:
    return min(config.remote_log_index_file_cache_total_size_bytes, INDEX_CACHE_BYTES_MAX)


def _is_mine(image: Callable[[], MetadataImage], registration: Registration) -> bool:
    return _is_controller(image(), registration)


def _is_controller(image: MetadataImage, registration: Registration) -> bool:
    controller = image.controller
    return controller is not None and (controller.broker_id, controller.broker_epoch) == (
        registration.broker_id,
        registration.broker_epoch,
    )
