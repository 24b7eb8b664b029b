"""The settings of the group coordinator, with Kafka's names, defaults and units."""

from __future__ import annotations

from dataclasses import dataclass

from tierlog.config.broker import BrokerConfig


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """Defaults are Kafka 4.4's, the last four are ours and bound memory (I15)."""

    offset_metadata_max_bytes: int = 4096
    offsets_retention_minutes: int = 10_080
    offsets_retention_check_interval_ms: int = 600_000
    group_min_session_timeout_ms: int = 6_000
    group_max_session_timeout_ms: int = 1_800_000
    group_initial_rebalance_delay_ms: int = 3_000
    group_max_size: int = 2**31 - 1
    group_metadata_max_bytes: int = 1_000_000  # of one group's record: below max.message.bytes
    groups_max: int = 100_000  # groups per shard that may be made by JoinGroup or OffsetCommit
    group_bytes_max: int = (
        4 << 20
    )  # of members in one group: all that they offer, of which one protocol is recorded
    shard_bytes_max: int = 32 << 20  # of members in all groups of a shard

    @property
    def offsets_retention_ms(self) -> int:
        return self.offsets_retention_minutes * 60_000


def group_config(config: BrokerConfig) -> GroupConfig:
    return GroupConfig(
        offset_metadata_max_bytes=config.offset_metadata_max_bytes,
        offsets_retention_minutes=config.offsets_retention_minutes,
        offsets_retention_check_interval_ms=config.offsets_retention_check_interval_ms,
        group_min_session_timeout_ms=config.group_min_session_timeout_ms,
        group_max_session_timeout_ms=config.group_max_session_timeout_ms,
        group_initial_rebalance_delay_ms=config.group_initial_rebalance_delay_ms,
        group_max_size=config.group_max_size,
    )
