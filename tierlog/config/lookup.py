"""Every known property by name."""

from __future__ import annotations

from tierlog.config import broker_table, kafka_table, topic_table
from tierlog.config.definitions import Definition

BROKER: dict[str, Definition] = {
    row.name: row
    for row in (*broker_table.KAFKA, *broker_table.OWN, *kafka_table.MEANINGLESS, *kafka_table.REFUSED)
}
TOPIC: dict[str, Definition] = {
    row.name: row
    for row in sorted(
        (*topic_table.HONOURED, *topic_table.MEANINGLESS, *topic_table.REFUSED), key=lambda r: r.name
    )
}
