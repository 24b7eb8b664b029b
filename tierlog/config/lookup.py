"""Every known property by name, and the nearest name to an unknown one."""

from __future__ import annotations

from difflib import get_close_matches

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
# What an old server.properties may still say, and why it is gone.
_REMOVED = {
    "inter.broker.protocol.version": "Kafka 4 removed it; delete the line",
    "log.message.format.version": "Kafka 4 removed it; delete the line",
    "log.message.timestamp.difference.max.ms": "Kafka 4 replaced it by log.message.timestamp.before.max.ms "
    "and log.message.timestamp.after.max.ms",
    "offsets.commit.required.acks": "Kafka 4 removed it; delete the line",
    "auto.include.jmx.reporter": "Kafka 4 removed it; delete the line",
    "log.message.downconversion.enable": "Kafka 4 removed it; delete the line",
}


def unknown_hint(name: str, known: dict[str, Definition] | None = None) -> str:
    """Why ``name`` may be unknown and what may have been meant."""
    for prefix, reason in _REMOVED.items():
        if name.startswith(prefix):
            return reason
    names = BROKER if known is None else known
    if known is None and name in TOPIC and TOPIC[name].synonyms:
        return f"it is a topic's config; the broker's default for it is {TOPIC[name].synonyms[0]}"
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else "see Kafka's broker properties and tierlog's own"
