"""Metrics of the object store and of the reads from it; read only at a scrape.

Requests by cause and topic: ``request_metrics``. Bytes fetched per byte served is
``tierlog_remote_fetched_bytes_total`` by ``kafka_server_brokertopicmetrics_remotefetchbytes_total``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from tiering.disk_cache.cache import DiskCache
from tiering.objects.measured import LATENCY_BOUNDS_S, StoreStats, VerbStats
from tiering.reading.reader import RemoteReader
from tiering.sweeping.sweeps import Waiting
from tierlog.broker.offload.reading.followed_views import FollowedViews
from tierlog.broker.offload.tier import PartitionTier
from tierlog.telemetry.metrics import Kind, Labels, Registry, Sample

POOL = "kafka_log_remote_remotestoragethreadpool_"
THROTTLE = "kafka_server_remotelogmanager_remote_fetch_throttle_time_"

Row: TypeAlias = tuple[str, Kind, str, Callable[[], float]]


def register(registry: Registry, stats: StoreStats, reader: RemoteReader) -> None:
    """Registers all families; once per broker."""
    _register_store(registry, stats)
    rows: tuple[Row, ...] = (
        (
            "tierlog_remote_fetched_bytes_total",
            "counter",
            "Bytes of segments that were read from the object store.",
            lambda: reader.stats.fetched_bytes,
        ),
        (
            "tierlog_chunk_cache_hits_total",
            "counter",
            "Reads of chunks that were in memory.",
            lambda: reader.cache_stats.hit_count,
        ),
        (
            "tierlog_chunk_cache_misses_total",
            "counter",
            "Chunks that a reader had to wait for.",
            lambda: reader.cache_stats.demand_count,
        ),
        (
            "tierlog_chunk_cache_read_ahead_total",
            "counter",
            "Chunks that were loaded before anybody asked.",
            lambda: reader.cache_stats.read_ahead_count,
        ),
        ("tierlog_chunk_cache_bytes", "gauge", "Chunks in memory.", lambda: reader.cached_bytes),
        (
            "tierlog_chunk_cache_waits_total",
            "counter",
            "Ranges that had to wait for memory.",
            lambda: reader.cache_stats.wait_count,
        ),
        (
            "tierlog_chunk_cache_unread_evictions_total",
            "counter",
            "Chunks that were loaded ahead and had to go before anybody read them.",
            lambda: reader.unread_evictions,
        ),
        *_gets(reader),
    )
    for name, kind, help_text, read in rows:
        registry.value(name, kind, help_text, read)


def register_disk_cache(registry: Registry, cache: DiskCache) -> None:
    """Metrics of the disk cache; only where there is one."""
    stats, prefix = cache.stats, "tierlog_disk_cache_"
    rows: tuple[Row, ...] = (
        ("hits_total", "counter", "Loads of remote data that came from the disk.", lambda: stats.hit_count),
        ("misses_total", "counter", "Loads that the disk did not have.", lambda: stats.miss_count),
        ("read_bytes_total", "counter", "Bytes that came from the disk.", lambda: stats.read_bytes),
        ("written_bytes_total", "counter", "Bytes put on the disk.", lambda: stats.written_bytes),
        ("bytes", "gauge", "Files of the disk cache.", lambda: cache.used_bytes),
        ("entries", "gauge", "Ranges that can be read from the disk.", lambda: cache.entry_count),
        ("evictions_total", "counter", "Ranges that made room for others.", lambda: stats.eviction_count),
        (
            "corrupt_total",
            "counter",
            "Ranges that were damaged, cut off, foreign or gone, and so were fetched again.",
            lambda: stats.corrupt_count,
        ),
        ("read_errors_total", "counter", "Reads that failed or were late.", lambda: stats.read_error_count),
        ("write_errors_total", "counter", "Writes that failed.", lambda: stats.write_error_count),
        (
            "unkept_total",
            "counter",
            "Ranges worth keeping that were not: too many waited, or the disk was left alone.",
            lambda: stats.unkept_count,
        ),
        ("waiting_bytes", "gauge", "Memory of what waits to be written.", lambda: cache.waiting_bytes),
        ("paused", "gauge", "1 while a disk that failed is left alone.", lambda: cache.is_paused),
    )
    for name, kind, help_text, read in rows:
        registry.value(prefix + name, kind, help_text, read)


def _gets(reader: RemoteReader) -> tuple[Row, ...]:
    """How the GETs fare; under Kafka's names where it has such."""
    now_s = asyncio.get_running_loop().time
    return (
        (
            "tierlog_remote_hedged_gets_total",
            "counter",
            "Reads that were asked a second time because they took long.",
            lambda: reader.stats.hedge_count,
        ),
        (
            "tierlog_remote_hedges_won_total",
            "counter",
            "Reads whose second request was answered first.",
            lambda: reader.stats.hedge_win_count,
        ),
        (
            "tierlog_remote_get_retries_total",
            "counter",
            "Reads that were tried again after an error.",
            lambda: reader.stats.retry_count,
        ),
        (
            "tierlog_remote_get_push_backs_total",
            "counter",
            "Reads that the object store throttled or did not answer.",
            lambda: reader.stats.push_back_count,
        ),
        (
            "tierlog_remote_get_concurrency_limit",
            "gauge",
            "How many reads of the object store may run at once.",
            lambda: reader.concurrency_limit,
        ),
        (
            POOL + "remotelogreadertaskqueuesize",
            "gauge",
            "Readers of remote data that wait for memory.",
            lambda: reader.waiting_count,
        ),
        (
            POOL + "remotelogreaderavgidlepercent",
            "gauge",
            "The part of the reads that may run at once that is free, 0 to 1.",
            lambda: reader.idle_share,
        ),
        (
            THROTTLE + "avg",
            "gauge",
            "Milliseconds that reads waited for remote.log.manager.fetch.max.bytes.per.second of late.",
            lambda: 1_000 * reader.throttle_times.average_and_longest(now_s())[0],
        ),
        (
            THROTTLE + "max",
            "gauge",
            "The longest such wait of late, in milliseconds.",
            lambda: 1_000 * reader.throttle_times.average_and_longest(now_s())[1],
        ),
    )


def register_tiers(
    registry: Registry, tiers: Callable[[], Iterable[PartitionTier]], purged: Callable[[], Iterable[Waiting]]
) -> None:
    """Metrics of objects that could not be deleted, and of pages that are lost. ``purged``: those of deleted topics."""

    def waiting() -> Iterator[Waiting]:
        yield from (tier.sweeps.waiting for tier in tiers())
        yield from purged()

    rows: tuple[tuple[str, str, Callable[[], float]], ...] = (
        (
            "tierlog_remote_undeleted_objects",
            "Objects that the object store refused to delete; they wait for a later sweep.",
            lambda: sum(each.objects for each in waiting()),
        ),
        (
            "tierlog_remote_undeleted_bytes",
            "Bytes of those objects, as far as their sizes are known.",
            lambda: sum(each.bytes for each in waiting()),
        ),
        (
            "tierlog_remote_lost_pages",
            "Pages of tiers led here that are gone or damaged: the offsets that they list cannot be read.",
            lambda: sum(len(tier.pages.lost) for tier in tiers()),
        ),
    )
    for name, help_text, read in rows:
        registry.value(name, "gauge", help_text, read)


def register_views(registry: Registry, views: FollowedViews) -> None:
    """Metrics of what followers know of tiers."""
    registry.value(
        "tierlog_followed_tier_views",
        "gauge",
        "Tiers of followed partitions that consumers read here.",
        lambda: len(views),
    )
    registry.value(
        "tierlog_followed_tier_view_bytes",
        "gauge",
        "Memory of what is known of them.",
        lambda: views.size_bytes,
    )


def _register_store(registry: Registry, stats: StoreStats) -> None:
    def by_verb(read: Callable[[VerbStats], float]) -> Callable[[], Iterable[Sample]]:
        return lambda: [Sample("", (("verb", verb),), read(row)) for verb, row in stats.verbs.items()]

    def errors() -> Iterator[Sample]:
        for verb, row in stats.verbs.items():
            for kind, count in list(row.errors.items()):
                yield Sample("", (("verb", verb), ("kind", kind)), count)

    def directions() -> Iterator[Sample]:
        yield Sample("", (("direction", "sent"),), sum(row.sent_bytes for row in stats.verbs.values()))
        yield Sample(
            "", (("direction", "received"),), sum(row.received_bytes for row in stats.verbs.values())
        )

    def seconds() -> Iterator[Sample]:
        for verb, row in stats.verbs.items():
            labels: Labels = (("verb", verb),)
            seen = 0
            bounds = [*map(repr, LATENCY_BOUNDS_S), "+Inf"]
            for bound, count in zip(bounds, row.buckets, strict=True):
                seen += count
                yield Sample("_bucket", (*labels, ("le", bound)), seen)
            yield Sample("_count", labels, seen)
            yield Sample("_sum", labels, row.seconds)

    name = "tierlog_object_"
    registry.source(
        name + "requests_total",
        "counter",
        "Requests to the object store, attempts counted.",
        by_verb(lambda row: row.requests),
    )
    registry.source(
        name + "in_flight",
        "gauge",
        "Calls of the object store under way.",
        by_verb(lambda row: row.in_flight),
    )
    registry.source(name + "errors_total", "counter", "Calls of the object store that failed.", errors)
    registry.source(name + "bytes_total", "counter", "Bytes to and from the object store.", directions)
    registry.source(name + "request_seconds", "histogram", "Duration of calls of the object store.", seconds)
