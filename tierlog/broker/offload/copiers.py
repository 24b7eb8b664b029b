"""Who copies this broker's segments: a process of its own, or this one where no other process can open the store."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from tiering.copying.mover import Mover
from tiering.copying.port import Copier
from tiering.copying.worker.copier import WorkerCopier
from tiering.objects.measured import StoreStats
from tiering.objects.opening import opens_elsewhere
from tiering.objects.throttled import ThrottledStore
from tierlog.config.broker import BrokerConfig
from tierlog.telemetry.metrics import Registry

logger = structlog.get_logger()


def copier_of(
    config: BrokerConfig,
    objects: ThrottledStore,
    stats: StoreStats,
    registry: Registry,
    now_ms: Callable[[], int],
) -> Copier:
    """The worker's requests count in ``stats``, and keep to the rate of ``objects``."""
    url = config.tierlog_object_store
    if not opens_elsewhere(url, objects):
        return Mover(objects, clock_ms=now_ms)
    copier = WorkerCopier(
        url,
        jobs_max=config.tierlog_upload_concurrency,
        stats=stats,
        clock_ms=now_ms,
        take=objects.take_upload,
        on_death=_tell_death,
    )
    registry.value(
        "tierlog_copy_worker_deaths_total",
        "counter",
        "Times that the process that copies segments ended and had not been told to.",
        lambda: copier.death_count,
    )
    return copier


def _tell_death(why: str, pause_s: float) -> None:
    logger.warning(
        "the process that copies segments is gone: its copies are tried again", why=why, next_in_s=pause_s
    )
