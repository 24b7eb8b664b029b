"""A follower's round in the kernel: what ``fetcher`` and ``apply_reply`` do with ordinary answers, and the next request.

The kernel reads and writes the state of schedule, followers and logs through their attributes, so any answer and any request
may go either way. What it does not know it leaves untouched: an answer as a whole, or its last partitions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tierlog import kernel
from tierlog.broker.following.apply_reply import failed
from tierlog.config.broker import BrokerConfig
from tierlog.errors import StorageError
from tierlog.log.files.filesystem import storage_error
from tierlog.log.files.names import LOG
from tierlog.log.producers.state import KnownBatch
from tierlog.log.writing import undo
from tierlog.replication import fetch_schedule
from tierlog.replication.fetches import FollowerFetch
from tierlog.replication.follower import BACKOFF_MIN_MS, FollowerState

if TYPE_CHECKING:
    from tierlog.broker.replicas.partition import Partition
    from tierlog.kernel._compiled import Follow
    from tierlog.log.segment import Segment


def undone(
    now_ms: Callable[[], int],
    partition: Partition,
    segment: Segment | None,
    position: int,
    end_offset: int,
    wall_clock_ms: int,
    error: Exception,
) -> None:
    """The kernel's bookkeeping has failed behind its write, at ``position`` of the active segment; without a segment, the
    log has nothing to undo."""
    follower = partition.follower
    assert follower is not None
    try:
        if segment is not None:
            undo(partition.log, segment, position, end_offset, wall_clock_ms)
    except Exception as failure:
        error = failure
    if segment is not None and isinstance(error, OSError) and not isinstance(error, StorageError):
        error = storage_error(error, segment.path(LOG))
    failed(partition, follower, error, now_ms())


def hot_round(
    source_id: int,
    followed: dict[fetch_schedule.Key, Any],
    schedule: fetch_schedule.FetchSchedule,
    config: BrokerConfig,
    client_id: str,
    now_ms: Callable[[], int],
) -> Follow | None:
    """None without a kernel."""
    if kernel.compiled is None:
        return None
    made: Follow = kernel.compiled.Follow(
        partitions=followed,
        schedule=schedule,
        known_batch=KnownBatch,
        follower_fetch=FollowerFetch,
        fetching=FollowerState.FETCHING,
        client_id=client_id.encode(),
        failed=partial(undone, now_ms),
        node_id=config.node_id,
        source_id=source_id,
        max_named=fetch_schedule.MAX_NAMED,
        wait_max_ms=config.replica_fetch_wait_max_ms,
        min_bytes=config.replica_fetch_min_bytes,
        response_bytes_max=config.replica_fetch_response_max_bytes,
        bytes_max=config.replica_fetch_max_bytes,
        backoff_min_ms=BACKOFF_MIN_MS,
    )
    return made
