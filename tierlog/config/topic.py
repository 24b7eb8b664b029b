"""The effective configuration of one topic: Kafka's topic configs as typed fields.

Field names are Kafka's with dots and dashes as underscores, including the units in them: ``*_bytes`` bytes, ``*_ms``
milliseconds. -1 means unlimited, -2 "as the total" (``local.retention.*``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tierlog.config.tiers import Rung

DAY_MS = 24 * 60 * 60 * 1000
MAX_LONG = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """Defaults are Kafka 4.4's."""

    cleanup_policy: frozenset[str] = field(default_factory=lambda: frozenset({"delete"}))
    compression_type: str = "producer"
    delete_retention_ms: int = DAY_MS
    file_delete_delay_ms: int = 60_000
    flush_messages: int = MAX_LONG
    flush_ms: int = MAX_LONG
    flush_mode: str = "os"
    follower_replication_throttled_replicas: frozenset[str] = frozenset()
    index_interval_bytes: int = 4096
    leader_replication_throttled_replicas: frozenset[str] = frozenset()
    local_retention_bytes: int = -2
    local_retention_ms: int = -2
    max_compaction_lag_ms: int = MAX_LONG
    max_message_bytes: int = 1048588
    message_timestamp_after_max_ms: int = 3_600_000
    message_timestamp_before_max_ms: int = MAX_LONG
    message_timestamp_type: str = "CreateTime"
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    min_insync_replicas: int = 1
    preallocate: bool = False
    remote_copy_lag_bytes: int = -1
    remote_copy_lag_ms: int = 0
    remote_log_copy_disable: bool = False
    remote_storage_enable: bool = False
    retention_bytes: int = -1
    retention_ms: int = 7 * DAY_MS
    segment_bytes: int = 1073741824
    segment_index_bytes: int = 10485760
    segment_jitter_ms: int = 0
    segment_ms: int = 7 * DAY_MS
    unclean_leader_election_enable: bool = False
    tierlog_object_store: str = field(default="", repr=False)
    tierlog_remote_copy_max_delay_ms: int = -1
    tierlog_tiers: tuple[Rung, ...] = ()
    tierlog_tiers_before_minimum: bool = False
    tierlog_validate_records: bool = False

    @property
    def delays_copies(self) -> bool:
        """Whether sealed segments may have to wait before they are copied to the object store."""
        return self.remote_copy_lag_ms != 0 and self.remote_copy_lag_bytes != 0

    @property
    def is_compacted(self) -> bool:
        return "compact" in self.cleanup_policy

    @property
    def is_deleted_by_retention(self) -> bool:
        return "delete" in self.cleanup_policy
