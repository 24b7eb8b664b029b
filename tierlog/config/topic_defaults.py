"""The default configs of topics: the ``log.*`` properties of the broker as a ``TopicConfig``.

Kafka's order of synonyms: milliseconds win over minutes, minutes over hours; ``log.flush.interval.ms`` wins
over ``log.flush.scheduler.interval.ms``. Any negative retention means unlimited and becomes -1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tierlog.config.tiers import parse_tiers
from tierlog.config.topic import TopicConfig

MILLIS_OF_UNIT = {"hours": 3_600_000, "minutes": 60_000}


def first_in_ms(values: Mapping[str, Any], *names: str) -> int:
    """The first of ``names`` that has a value, in milliseconds by its name's last word."""
    for name in names:
        value = values.get(name)
        if value is not None:
            return int(value) * MILLIS_OF_UNIT.get(name.rpartition(".")[2], 1)
    raise KeyError(names)


def topic_defaults(values: Mapping[str, Any]) -> TopicConfig:
    """``values``: typed broker properties by name, defaults filled in."""
    retention_ms = first_in_ms(values, "log.retention.ms", "log.retention.minutes", "log.retention.hours")
    return TopicConfig(
        cleanup_policy=frozenset(values["log.cleanup.policy"]),
        compression_type=values["compression.type"],
        delete_retention_ms=values["log.cleaner.delete.retention.ms"],
        file_delete_delay_ms=values["log.segment.delete.delay.ms"],
        flush_messages=values["log.flush.interval.messages"],
        flush_ms=first_in_ms(values, "log.flush.interval.ms", "log.flush.scheduler.interval.ms"),
        flush_mode=values["flush.mode"] or "os",
        index_interval_bytes=values["log.index.interval.bytes"],
        local_retention_bytes=values["log.local.retention.bytes"],
        local_retention_ms=values["log.local.retention.ms"],
        max_compaction_lag_ms=values["log.cleaner.max.compaction.lag.ms"],
        max_message_bytes=values["message.max.bytes"],
        message_timestamp_after_max_ms=values["log.message.timestamp.after.max.ms"],
        message_timestamp_before_max_ms=values["log.message.timestamp.before.max.ms"],
        message_timestamp_type=values["log.message.timestamp.type"],
        min_cleanable_dirty_ratio=values["log.cleaner.min.cleanable.ratio"],
        min_compaction_lag_ms=values["log.cleaner.min.compaction.lag.ms"],
        min_insync_replicas=values["min.insync.replicas"],
        preallocate=values["log.preallocate"],
        remote_copy_lag_bytes=values["log.remote.copy.lag.bytes"],
        remote_copy_lag_ms=values["log.remote.copy.lag.ms"],
        retention_bytes=values["log.retention.bytes"],
        retention_ms=-1 if retention_ms < 0 else retention_ms,
        segment_bytes=values["log.segment.bytes"],
        segment_index_bytes=values["log.index.size.max.bytes"],
        segment_jitter_ms=first_in_ms(values, "log.roll.jitter.ms", "log.roll.jitter.hours"),
        segment_ms=first_in_ms(values, "log.roll.ms", "log.roll.hours"),
        unclean_leader_election_enable=values["unclean.leader.election.enable"],
        tierlog_remote_copy_max_delay_ms=values["tierlog.remote.copy.max.delay.ms"],
        tierlog_tiers=parse_tiers(values["tierlog.tiers"]),
        tierlog_validate_records=values["tierlog.validate.records"],
    )
