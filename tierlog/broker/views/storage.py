"""``GET /v1/topics/{topic}/storage``: where the bytes of a topic are, for the replicas on this broker.

The figures count:

* ``local``: ``.log`` files on this broker's disk, the active segment included;
* ``remote``: batches in committed, live objects, footers not counted;
* ``future_dated``: segments, here or in the bucket, with a timestamp in the future. Retention by time takes the time of
  their last write, or of their copy, instead, so that they do not hold back older segments;
* ``set_aside``: files with damaged bytes, kept for an operator to look at; readers no longer get their records;
* ``both``: sealed local segments that end at or below the tiered end. They are in ``local`` and in ``remote``, so the
  partition's size without duplicates is ``local + remote - both``.

Every figure is of this one replica; only the leader reports the remote ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.replicas.partition import Partition
from tierlog.config.places import without_query
from tierlog.log.opening.recovery import kept_files
from tierlog.telemetry.http import JsonView

PATH = "/v1/topics/{topic}/storage"
PARTITIONS_PER_SLICE = 32


def storage_view(
    node_id: int, hosted: Iterable[Partition], now_ms: Callable[[], int] = wall_clock_ms
) -> JsonView:
    """The view for the broker's HTTP server."""

    async def read(parameters: Mapping[str, str]) -> dict[str, Any] | None:
        topic = parameters["topic"]
        mine = sorted(
            (partition for partition in hosted if partition.topic_partition.topic == topic),
            key=lambda partition: partition.topic_partition.partition,
        )
        rows = []
        for number, partition in enumerate(mine):
            if number % PARTITIONS_PER_SLICE == PARTITIONS_PER_SLICE - 1:
                await asyncio.sleep(0)
            rows.append({**storage_row(partition), **peculiar(partition, now_ms())})
        return {"topic": topic, "node_id": node_id, "partitions": rows} if rows else None

    return JsonView(PATH, read)


def storage_row(partition: Partition) -> dict[str, Any]:
    """One replica. ``remote`` is None without remote storage, its ``object_store`` empty where that is the brokers' own;
    until the tier's head is read its ``is_loaded`` is false and its figures are 0. ``tiered_end_offset`` and
    ``high_watermark`` are None if unknown."""
    log, tier = partition.log, partition.remote
    tiered_end = tier.end_offset if tier is not None and tier.is_loaded else None
    both_segments = both_bytes = 0
    for segment in log.segments.sealed():
        if tiered_end is None or segment.end_offset > tiered_end:
            break
        both_segments += 1
        both_bytes += segment.size_bytes
    row: dict[str, Any] = {
        "partition": partition.topic_partition.partition,
        "is_leader": partition.leader is not None,
        "offline": partition.offline.value if partition.offline else None,
        "log_start_offset": partition.log_start_offset,
        "local_log_start_offset": log.local_log_start_offset,
        "tiered_end_offset": tiered_end,
        "high_watermark": partition.high_watermark if partition.leader is not None else None,
        "log_end_offset": log.log_end_offset,
        "active_base_offset": log.active_base_offset,
        "local": {"segments": log.segment_count, "bytes": log.size_bytes},
        "remote": None,
        "both": {"segments": both_segments, "bytes": both_bytes},
    }
    if tier is not None:
        known = tiered_end is not None
        row["remote"] = {
            "is_loaded": known,
            "segments": tier.segment_count if known else 0,
            "bytes": tier.size_bytes if known else 0,
            "object_store": without_query(tier.store),
        }
    return row


def peculiar(partition: Partition, now_ms: int) -> dict[str, Any]:
    damaged = [path.stat().st_size for path in kept_files(partition.log.directory)]
    return {
        "future_dated": future_dated(partition, now_ms),
        "set_aside": {"files": len(damaged), "bytes": sum(damaged)},
    }


def future_dated(partition: Partition, now_ms: int) -> dict[str, int]:
    tier = partition.remote
    return {
        "local": sum(segment.max_timestamp > now_ms for segment in partition.log.segments),
        "remote": tier.future_dated_count(now_ms) if tier is not None and tier.is_loaded else 0,
    }
