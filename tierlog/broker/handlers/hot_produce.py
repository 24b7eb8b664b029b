"""Produce (key 0) in the kernel: what ``handlers.produce`` does for ordinary requests, in one call.

The kernel reads and writes the state of partitions and logs through their attributes, so any request may go either way. What
it does not know it leaves untouched to the handler. Where it has appended and followers have to copy first, it makes the
same waiting object as the handler. Where a write failed in the middle, it tells the results so far, and the handler goes
on behind them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tierlog import kernel
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.handlers.waiting_produce import PRODUCE_KEY
from tierlog.broker.leading.kernel_fetch import kernel_fetches
from tierlog.broker.network.context import context_of
from tierlog.broker.network.ports import Asker, Hot
from tierlog.broker.network.replay_quota import FETCH_KEY
from tierlog.broker.replicas.partition import Partition
from tierlog.log.append import AppendResult
from tierlog.log.producers.state import KnownBatch
from tierlog.log.segment import Segment
from tierlog.log.writing import undo
from tierlog.metadata.internal_topics import INTERNAL_TOPICS
from tierlog.telemetry.requests import ApiMetrics

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


def undone(
    partition: Partition, segment: Segment, position: int, end_offset: int, now_ms: int, error: Exception
) -> AppendResult:
    """The kernel's bookkeeping has failed behind its write, at ``position`` of the active segment."""
    try:
        undo(partition.log, segment, position, end_offset, now_ms)
    except Exception as failure:
        error = failure
    return partition.append_failed(error)


def hot_requests(services: Services, recorders: Mapping[int, ApiMetrics]) -> Hot | None:
    """Produce, and the fetches of followers. None without a kernel."""
    return hot_produce(services, recorders[PRODUCE_KEY], kernel_fetches(services, recorders[FETCH_KEY]))


def hot_produce(services: Services, recorder: ApiMetrics, fetches: Any = None) -> Hot | None:
    """None without a kernel. ``fetches``: what serves Fetch requests among the others (``leading.kernel_fetch``)."""
    if kernel.compiled is None:
        return None

    def takes_turn(connection: Asker, client_id: str | None, partition: Partition) -> None:
        ctx = context_of(connection, PRODUCE_KEY, 0, 0, client_id, 0.0)
        services.client_traffic.takes_turn(ctx, partition)

    by_name, by_id = services.replicas.tables
    produce = kernel.compiled.Produce(
        by_name=by_name,
        by_id=by_id,
        internal_topics=frozenset(INTERNAL_TOPICS),
        known_batch=KnownBatch,
        append_result=AppendResult,
        now_ms=services.now_ms,
        now_s=time.time if services.now_ms is wall_clock_ms else None,
        clock=services.loop.time,
        recorder=recorder,
        takes_turn=takes_turn,
        undo=undone,
        fetches=fetches,
        waits=services.produce_waits,
        write=os.write,
        # uvloop's says the time at which it has polled.
        clock_stands=type(services.loop).__module__.partition(".")[0] == "uvloop",
    )
    hot: Hot = produce
    return hot
