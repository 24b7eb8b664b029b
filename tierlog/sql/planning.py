"""What of a topic is read for a statement: offsets per partition, resolved once.

A time bounds offsets through the topic's time indexes. From below that is exact: records before the first one of that time
are older. From above records may be out of order: what comes after the first record of a time may be older again. So an
upper bound is taken later by the topic's disorder: as told, or as much as its segments show, each by the times of its first
batch and of those before it. Records that are later than others by more than that may be missed.
"""

from __future__ import annotations

from tiering.errors import TieringError
from tierlog.errors import UserError
from tierlog.replay.plan import PartitionPlan, Plan, joined
from tierlog.replay.resolve import Held, Origin
from tierlog.sql.boxes import Box, Need
from tierlog.types import TopicPartition

Span = tuple[int, int]


async def plan_of(origin: Origin, topic: str, need: Need, disorder_ms: int | None = None) -> Plan:
    """``disorder_ms`` None: as the segments show. Raises UserError. A need without records is an empty plan."""
    parts: list[PartitionPlan] = []
    try:
        for number in await origin.partitions(topic):
            boxes = [box for box in need if box.partitions is None or number in box.partitions]
            if not boxes:
                continue
            where = TopicPartition(topic, number)
            held = await origin.held(where)
            slack_ms = shown_disorder_ms(held) if disorder_ms is None else disorder_ms
            spans = [await _span(origin, where, held, box, slack_ms) for box in boxes]
            parts += [origin.of_held(where, held, *span) for span in joined(spans)]
    except TieringError as error:
        raise UserError(f"{error}; the bucket cannot be read as it is") from None
    return Plan(tuple(parts))


async def _span(origin: Origin, where: TopicPartition, held: Held, box: Box, disorder_ms: int) -> Span:
    """Offsets [start, end) of a box; empty where start is not below end."""
    start, end = held.start, held.end
    if box.start_ms is not None and box.start_ms > 0:
        start = await origin.offset_of_time(where, held, box.start_ms)
    if box.end_ms is not None:
        # Times count from 0; a record without one meets no bound.
        until_ms = box.end_ms + disorder_ms
        end = await origin.offset_of_time(where, held, until_ms) if box.end_ms > 0 else start
    start = start if box.start_offset is None else max(start, box.start_offset)
    return start, end if box.end_offset is None else min(end, box.end_offset)


def shown_disorder_ms(held: Held) -> int:
    """By how much the first batch of a segment is older than a record before it, at most. 0 where nothing is tiered."""
    found, largest_ms = 0, -1
    for entry in held.catalog.starting_at(held.start) if held.catalog is not None else ():
        if entry.first_timestamp_ms >= 0:
            found = max(found, largest_ms - entry.first_timestamp_ms)
        largest_ms = max(largest_ms, entry.max_timestamp_ms)
    return found
