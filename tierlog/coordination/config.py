"""The settings of the group coordinator, with Kafka's names, defaults and units."""

from __future__ import annotations

from dataclasses import dataclass

from tierlog.config.broker import BrokerConfig


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """The defaults are Kafka 4.4's. The last four settings are not Kafka's; they bound memory (I15)."""

    offset_metadata_max_bytes: int = 4096
    offsets_retention_minutes: int = 10_080
    offsets_retention_check_interval_ms: int = 600_000
    group_min_session_timeout_ms: int = 6_000
    group_max_session_timeout_ms: int = 1_800_000
    group_initial_rebalance_delay_ms: int = 3_000
    group_max_size: int = 2**31 - 1
    group_metadata_max_bytes: int = 1_000_000  # of one group's record, so as to fit max.message.bytes
    groups_max: int = 100_000  # per shard: JoinGroup and OffsetCommit create no further group beyond this
    group_bytes_max: int = (
        4 << 20
    )  # of the members of one group: all protocols that they offer, though only one is recorded
    shard_bytes_max: int = 32 << 20  # of the members of all groups of a shard

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
