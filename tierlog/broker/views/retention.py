"""``GET /v1/topics/{topic}/retention/{partition}``: which rule keeps, removes or moves each segment, here and in the store.

Only the leader of the partition answers. A segment that is here and in the object store has a row for each; times are those
of a look now: what is appended later may remove by size sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.upkeep.housekeeping import LocalFacts
from tierlog.config.places import without_query
from tierlog.log.retention_fates import Fate, fates
from tierlog.telemetry.http import JsonView

if TYPE_CHECKING:
    from tierlog.broker.offload.service import Tiering
    from tierlog.log.retention import SegmentFacts

PATH = "/v1/topics/{topic}/retention/{partition}"
ROWS_MAX = 500
"""Of either kind, the oldest first: the others are counted."""


def retention_view(
    node_id: int,
    hosted: Iterable[Partition],
    tiering: Callable[[], Tiering | None],
    now_ms: Callable[[], int] = wall_clock_ms,
) -> JsonView:
    """The view for the broker's HTTP server."""

    async def read(parameters: Mapping[str, str]) -> dict[str, Any] | None:
        wanted = parameters["topic"], parameters["partition"]
        for partition in hosted:
            name = partition.topic_partition
            if (name.topic, str(name.partition)) == wanted and partition.leader is not None:
                told = await _explained(partition, tiering(), now_ms())
                return {"topic": name.topic, "node_id": node_id, **told}
        return None

    return JsonView(PATH, read)


async def _explained(partition: Partition, service: Tiering | None, now_ms: int) -> dict[str, Any]:
    remote: tuple[list[dict[str, Any]], int] | None = None
    if service is not None:
        from tierlog.broker.offload.outlook import remote_rows

        remote = await remote_rows(service, partition, now_ms, ROWS_MAX)
    told, left = remote if remote is not None else ([], 0)
    return {
        "partition": partition.topic_partition.partition,
        "now_ms": now_ms,
        "segments": [*told, *local_rows(partition, now_ms, ROWS_MAX)],
        "object_store": "" if partition.remote is None else without_query(partition.remote.store),
        "left_out": left + max(partition.log.segment_count - ROWS_MAX, 0),
        "is_remote_known": remote is not None or not partition.config.remote_storage_enable,
    }


def local_rows(partition: Partition, now_ms: int, rows_max: int) -> list[dict[str, Any]]:
    """What local retention does with the oldest segments of this disk, as the next look of the housekeeping will."""
    log, tier = partition.log, partition.remote
    tiered_end = tier.end_offset if tier is not None and tier.is_loaded else partition.tiered_end_offset
    facts = LocalFacts(log.segments, now_ms)[:rows_max]
    told = fates(
        facts,
        partition.config,
        log_start_offset=log.log_start_offset,
        high_watermark=partition.high_watermark,
        now_ms=now_ms,
        tiered_end_offset=tiered_end,
        size_bytes=log.size_bytes,
        is_cut=len(facts) < log.segment_count,
    )
    return [_local_row(segment, fate) for segment, fate in zip(facts, told, strict=True)]


def _local_row(segment: SegmentFacts, fate: Fate) -> dict[str, Any]:
    return {
        "where": "local",
        "base_offset": segment.base_offset,
        "end_offset": segment.end_offset,
        "bytes": segment.size_bytes,
        "newest_ms": segment.largest_timestamp_ms,
        "class": "",
        "verdict": fate.verdict.value,
        "rule": fate.rule,
        "due_ms": fate.due_ms,
        "move": None,
    }
