"""How far a table is behind its topic."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from tierlog.replay.decode.schema import schema_of
from tierlog.replay.iceberg.commits import name_of, offsets_of
from tierlog.replay.iceberg.following import Source
from tierlog.replay.iceberg.offsets import holes
from tierlog.replay.iceberg.tables import TOPIC, TOPIC_ID, check_topic
from tierlog.replay.ledger import UNCOUNTED
from tierlog.replay.reading import Reading
from tierlog.replay.resolve import Held, Origin
from tierlog.types import TopicPartition

if TYPE_CHECKING:
    from pyiceberg.table import Table

_TIME = schema_of(["timestamp"])


async def description(table: Table, source: Source, now_ms: int) -> dict[str, Any]:
    """Raises UserError."""
    done = offsets_of(table)
    origin = Origin(source.bootstrap, source.bucket, caller=UNCOUNTED)
    try:
        await origin.start()
        check_topic(table, source.topic, await origin.topic_id(source.topic))
        rows: list[dict[str, Any]] = []
        for number in await origin.partitions(source.topic):
            where = TopicPartition(source.topic, number)
            held = await origin.held(where)
            spans = done.get(where, [])
            next_offset = max(spans[-1][1], held.start) if spans else held.start
            lag = max(held.end - next_offset, 0)
            waits_since_ms = await _time_at(origin, where, held, next_offset) if lag else now_ms
            rows.append(
                {
                    "partition": number,
                    "first_offset": spans[0][0] if spans else None,
                    "next_offset": next_offset,
                    "end_offset": held.end,
                    "lag_offsets": lag,
                    "lag_ms": None if waits_since_ms is None else max(now_ms - waits_since_ms, 0),
                    "deleted_offsets": sum(end - start for start, end in holes(spans)),
                }
            )
    finally:
        await origin.close()
    return summary(table) | {"lag_offsets": sum(row["lag_offsets"] for row in rows), "partitions": rows}


def summary(table: Table) -> dict[str, Any]:
    """What the table says of itself."""
    snapshot = table.current_snapshot()
    told = snapshot.summary if snapshot is not None else None

    def total(name: str) -> int:
        return int(told.additional_properties.get(f"total-{name}", 0)) if told is not None else 0

    return {
        "table": name_of(table),
        "topic": table.properties.get(TOPIC),
        "topic_id": table.properties.get(TOPIC_ID),
        "location": table.location(),
        "records": total("records"),
        "files": total("data-files"),
        "bytes": total("files-size"),
        "snapshots": len(table.snapshots()),
        "committed_ms": None if snapshot is None else snapshot.timestamp_ms,
    }


async def _time_at(origin: Origin, where: TopicPartition, held: Held, offset: int) -> int | None:
    """Of the oldest record that is not written; None where its place holds no record, or one without a time."""
    plan = origin.of_held(where, held, offset, offset + 1)
    async with aclosing(Reading(origin, _TIME, parallel=1).chunks(plan.reads)) as chunks:
        async for chunk in chunks:
            if chunk.batch is not None and chunk.batch.num_rows:
                times = chunk.batch.column(0).cast("int64")
                value: int | None = times[0].as_py()
                return value
    return None
