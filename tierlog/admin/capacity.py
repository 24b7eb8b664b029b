"""``tierlog capacity``: what disks and the bucket hold, how fast they fill, and what changes would make of it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tiering.capacity.forecast import (
    HORIZON_DAYS,
    Ahead,
    Growth,
    Slope,
    band,
    days_until,
    paths,
    slope_of,
    take_apart,
)
from tiering.capacity.held import Disk, Filling, Topic
from tiering.ledger.hours import take
from tiering.ledger.rows import LedgerRow
from tierlog.admin.cost.spans import iso
from tierlog.admin.cost.watched import Watched
from tierlog.errors import UserError

SEED = 20_260_501
"""Fixed: the same rows give the same figures."""
WINDOWS_DAYS = (7, 30, 90)
SHOWN_DAYS = (7, 30, 90)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY_MS = 86_400_000
UNSEEN = (
    "principal",
    "client_id",
    "host",
    "cause",
    "operation",
    "from_rack",
    "to_rack",
    "requests",
    "failed",
    "records",
)
"""Columns that say nothing of capacity."""
_THURSDAY = 3  # 1970-01-01


class Change(NamedTuple):
    """What if: growth times ``growth``, disks of ``capacity_bytes``, the data spread over ``brokers``, tiered partitions
    kept ``local_retention_ms`` on disk. None changes nothing."""

    growth: float = 1.0
    capacity_bytes: int | None = None
    brokers: int | None = None
    local_retention_ms: int | None = None


AS_IS = Change()


class Seen(NamedTuple):
    """Of a topic, what the ledger does not hold; None is unknown. Times are those of the oldest batches. ``plain_bytes``:
    what ``sampled_bytes`` of its batches are without compression."""

    oldest_local_ms: int | None = None
    oldest_remote_ms: int | None = None
    sampled_bytes: int = 0
    plain_bytes: int = 0


class Known(NamedTuple):
    """What a cluster and a bucket tell beside the ledger, by topic; ``now_ms``: when they were asked."""

    now_ms: int
    retention_ms: Mapping[str, int]
    seen: Mapping[str, Seen]


UNASKED = Known(0, {}, {})


def filled(rows: Iterable[LedgerRow]) -> tuple[Watched, Filling]:
    """Of rows in the order of their hours, which are looked at once."""
    watched, filling = Watched(), Filling()
    take(rows, watched, filling)
    return watched, filling


def capacity(
    filling: Filling,
    threshold_percent: float,
    change: Change = AS_IS,
    known: Known = UNASKED,
) -> dict[str, Any]:
    """Raises UserError."""
    found = filling.disks()
    if not found:
        raise UserError(
            "no row tells of a disk: the ledger's rows of kind disk are what capacity is told from"
        )
    brokers = len({disk.broker_id for disk in found})
    spread = 1.0 if change.brokers is None else brokers / change.brokers
    told = [
        _disk(_changed(disk, change, spread), change.growth * spread, threshold_percent) for disk in found
    ]
    return {
        "threshold_percent": threshold_percent,
        "is_crossed": any(row["is_crossed"] for row in told),
        "disks": told,
        "topics": [_topic(topic, known) for topic in filling.topics()],
    }


def _changed(disk: Disk, change: Change, spread: float) -> Disk:
    """The disk as it would be now; its series as it was, moved. ``spread``: a broker's part of what it has now."""
    kept = disk.kept_per_day * spread * change.growth
    local = disk.local_bytes * spread
    if change.local_retention_ms is not None:
        # What is in the bucket as well goes, and what stays is so many days of writing.
        local = local - disk.duplicated_bytes * spread
        local = max(local, kept * change.local_retention_ms / _DAY_MS)
    moved = local - disk.local_bytes
    return disk._replace(
        capacity_bytes=change.capacity_bytes or disk.capacity_bytes,
        local_bytes=int(local),
        duplicated_bytes=int(max(disk.duplicated_bytes * spread + min(moved, 0), 0)),
        series=tuple((hour_ms, used + moved) for hour_ms, used in disk.series),
        kept_per_day=kept,
    )


def _disk(disk: Disk, pace: float, threshold_percent: float) -> dict[str, Any]:
    rng = random.Random(SEED)
    growth = take_apart(disk.series).at_pace(pace)
    ahead = band(paths(growth, HORIZON_DAYS, rng))
    threshold_bytes = disk.capacity_bytes * threshold_percent / 100
    used = disk.used_bytes
    return {
        "broker": disk.broker_id,
        "log_dir": disk.log_dir,
        "capacity_bytes": disk.capacity_bytes,
        "local_bytes": disk.local_bytes,
        "duplicated_bytes": disk.duplicated_bytes,
        "others_bytes": disk.others_bytes,
        "used_percent": round(100 * used / disk.capacity_bytes, 1) if disk.capacity_bytes else 0.0,
        "is_crossed": used >= threshold_bytes,
        "history_days": round((disk.series[-1][0] - disk.series[0][0]) / _DAY_MS, 1),
        "slopes": [_slope(slope) for days in WINDOWS_DAYS if (slope := slope_of(growth, days, rng))],
        "weekdays": _weekdays(growth, disk.series[-1][0]),
        "ahead": [_ahead(ahead[days - 1]) for days in SHOWN_DAYS],
        "days_to_threshold": _days(growth, ahead, threshold_bytes),
        "days_to_full": _days(growth, ahead, disk.capacity_bytes),
        "store_away_days": _quotient(max(disk.capacity_bytes - used, 0), disk.kept_per_day),
    }


def _days(growth: Growth, ahead: Sequence[Ahead], limit: float) -> dict[str, float | None]:
    """``p50``: of the median of the possible futures; ``p90``: of those that grow faster than nine in ten."""
    found = {
        "p50": days_until(growth, ahead, limit, pessimist=False),
        "p90": days_until(growth, ahead, limit, pessimist=True),
    }
    return {name: None if days is None else round(days, 1) for name, days in found.items()}


def _quotient(amount: float, per_day: float) -> float | None:
    return round(amount / per_day, 1) if per_day > 0 else None


def _slope(slope: Slope) -> dict[str, int]:
    return {
        "days": slope.days,
        "per_day_bytes": int(slope.per_day),
        "p10": int(slope.low),
        "p90": int(slope.high),
    }


def _ahead(ahead: Ahead) -> dict[str, int]:
    return {"days": ahead.days, "p10": int(ahead.p10), "p50": int(ahead.p50), "p90": int(ahead.p90)}


def _weekdays(growth: Growth, last_ms: int) -> dict[str, int]:
    """What a day of each name adds, in the middle; a day is named after where its last hour begins."""
    first = last_ms // _DAY_MS + 1 + _THURSDAY
    slope = growth.slope
    named = {WEEKDAYS[(first + number) % 7]: int(growth.of_day(number, slope)) for number in range(7)}
    return {name: named[name] for name in WEEKDAYS}


def _topic(topic: Topic, known: Known) -> dict[str, Any]:
    kept_ms, seen = known.retention_ms.get(topic.topic), known.seen.get(topic.topic, Seen())
    retention_days = kept_ms / _DAY_MS if kept_ms is not None and kept_ms >= 0 else None
    held_days, headroom = topic.held_days, None
    times = [time_ms for time_ms in (seen.oldest_local_ms, seen.oldest_remote_ms) if time_ms is not None]
    reaches_days = (known.now_ms - min(times)) / _DAY_MS if times else held_days
    if retention_days is not None and reaches_days is not None:
        headroom = round(max(retention_days - reaches_days, 0.0), 1)
    return {
        "topic": topic.topic,
        "local_bytes": topic.local_bytes,
        "duplicated_bytes": topic.duplicated_bytes,
        "remote_bytes": topic.remote_bytes,
        "once_bytes": topic.once_bytes,
        "objects": topic.objects,
        "mean_object_bytes": topic.mean_object_bytes,
        "ingested_per_day_bytes": int(topic.ingested_per_day),
        "held_days": None if held_days is None else round(held_days, 1),
        "retention_days": retention_days,
        "headroom_days": headroom,
        "grows_by_bytes": None if headroom is None else int(headroom * topic.ingested_per_day),
        "oldest_local": None if seen.oldest_local_ms is None else iso(seen.oldest_local_ms),
        "oldest_remote": None if seen.oldest_remote_ms is None else iso(seen.oldest_remote_ms),
        "compression_ratio": round(seen.plain_bytes / seen.sampled_bytes, 2) if seen.sampled_bytes else None,
        "sampled_bytes": seen.sampled_bytes,
    }
