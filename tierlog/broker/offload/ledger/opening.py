"""Puts a broker's ledger together: its sources, its look, its metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tiering.ledger.held import Held
from tiering.metering.meta_sizes import MetaSizes
from tiering.objects.port import ObjectStore
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.network.client_traffic import ClientTraffic
from tierlog.broker.offload.ledger.ledger import Encode, Ledger
from tierlog.broker.offload.ledger.look import Look, Shared
from tierlog.broker.offload.ledger.sources import Source, TrafficRows
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.hosted import Replicas
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.background import Background
from tierlog.config.broker import BrokerConfig
from tierlog.telemetry.metrics import Registry


def open_ledger(
    config: BrokerConfig,
    cluster_id: str,
    objects: ObjectStore,
    encode: Encode,
    replicas: Replicas,
    tier_of: Callable[[Partition], PartitionTier | None],
    traffic: ClientTraffic,
    registry: Registry,
    background: Background,
    *,
    sizes: MetaSizes,
    is_controller: Callable[[], bool],
    further: Sequence[Source] = (),
    may_write: Callable[[], bool],
    monotonic_ms: Callable[[], int],
) -> Ledger:
    """Counting begins with ``Ledger.start``. ``further``: what else counts."""
    held = Held()
    ledger = Ledger(
        config.node_id,
        cluster_id,
        objects,
        encode,
        held,
        Look(held, lambda: replicas, tier_of, replicas.log_dirs, sizes, Shared(cluster_id, is_controller)),
        [TrafficRows(traffic, config.broker_rack or ""), *further],
        background,
        may_write=may_write,
        wall_ms=wall_clock_ms,
        monotonic_ms=monotonic_ms,
    )
    replicas.follow_config(ledger.configure)
    _register(registry, ledger)
    return ledger


def _register(registry: Registry, ledger: Ledger) -> None:
    book, prefix = ledger.book, "tierlog_ledger_"
    registry.value(
        prefix + "age_seconds",
        "gauge",
        "Since an object of the ledger was last written, or counting began.",
        lambda: max(0.0, (wall_clock_ms() - ledger.written_ms) / 1_000),
    )
    registry.value(
        prefix + "rows_held",
        "gauge",
        "Rows in memory that no object tells yet, but for what is held now.",
        lambda: book.held_rows,
    )
    registry.value(
        prefix + "objects_waiting",
        "gauge",
        "Objects that the store has not taken yet.",
        lambda: len(book.waiting),
    )
    registry.value(
        prefix + "rows_folded_total",
        "counter",
        "Rows that were summed over topics and clients, since there were too many.",
        lambda: book.folded_rows,
    )
    registry.value(
        prefix + "rows_lost_total",
        "counter",
        "Rows that were given up, since the store was away for too long.",
        lambda: book.lost_rows,
    )
