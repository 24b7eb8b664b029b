"""The controller's rules for topics: the defaults from server.properties, and how a topic's own configs override
them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tierlog.config.broker import BrokerConfig
from tierlog.config.properties import with_dynamic
from tierlog.config.topic_configs import validate_topic_configs
from tierlog.errors import UserError
from tierlog.metadata import keys
from tierlog.metadata.image import MetadataImage

# (the whole new set of overrides, the set before) → error messages; empty when all is valid
ConfigValidator = Callable[[Mapping[str, str | None], Mapping[str, str]], list[str]]

LIST_CONFIGS = {
    "cleanup.policy": "delete",
    "cordoned.log.dirs": "",
    "follower.replication.throttled.replicas": "",
    "leader.replication.throttled.replicas": "",
}
MIN_INSYNC_REPLICAS = "min.insync.replicas"
UNCLEAN_LEADER_ELECTION = "unclean.leader.election.enable"


def accept_all(configs: Mapping[str, str | None], existing: Mapping[str, str]) -> list[str]:
    """For tests: every config is valid."""
    return []


@dataclass(frozen=True, slots=True)
class InternalTopic:
    """A topic that the brokers keep for themselves; its ``configs`` override all others. The replication factor is
    an upper bound: with fewer brokers there are fewer replicas, and the controller adds replicas as brokers
    join."""

    partition_count: int
    replication_factor: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicRules:
    """``list_configs``: the configs that APPEND and SUBTRACT apply to, with their default values.
    ``balance_interval_ms``: how often leaders are balanced; 0: never."""

    partition_count: int = 1
    replication_factor: int = 1
    min_insync_replicas: int = 1
    unclean_leader_election: bool = False
    balance_interval_ms: int = 0
    remote_storage: bool = False
    deletion_enabled: bool = True
    validate_topic_configs: ConfigValidator = accept_all
    validate_broker_configs: ConfigValidator = accept_all
    list_configs: Mapping[str, str] = field(default_factory=lambda: dict(LIST_CONFIGS))
    internal_topics: Mapping[str, InternalTopic] = field(default_factory=dict)


def rules_of(
    broker: BrokerConfig, *, remote_storage: bool, validate_broker_configs: ConfigValidator = accept_all
) -> TopicRules:
    """The rules that follow from a broker's configuration."""

    def validate(configs: Mapping[str, str | None], existing: Mapping[str, str]) -> list[str]:
        return validate_topic_configs(configs, broker=broker, existing=existing)

    offsets = InternalTopic(
        broker.offsets_topic_num_partitions,
        broker.offsets_topic_replication_factor,
        {
            "cleanup.policy": "compact",
            "compression.type": "producer",
            "segment.bytes": str(broker.offsets_topic_segment_bytes),
        },
    )
    return TopicRules(
        partition_count=broker.num_partitions,
        replication_factor=broker.default_replication_factor,
        min_insync_replicas=broker.topic_defaults.min_insync_replicas,
        unclean_leader_election=broker.topic_defaults.unclean_leader_election_enable,
        balance_interval_ms=(
            broker.leader_imbalance_check_interval_seconds * 1000
            if broker.auto_leader_rebalance_enable
            else 0
        ),
        remote_storage=remote_storage,
        deletion_enabled=broker.delete_topic_enable,
        validate_topic_configs=validate,
        validate_broker_configs=validate_broker_configs,
        internal_topics={"__consumer_offsets": offsets},
    )


def configured_min_isr(image: MetadataImage, rules: TopicRules, overrides: Mapping[str, str]) -> int:
    """``min.insync.replicas`` before it is capped by the replica count."""
    own = overrides.get(MIN_INSYNC_REPLICAS)
    if own is None:
        own = image.broker_configs.get(keys.CLUSTER_DEFAULT, {}).get(MIN_INSYNC_REPLICAS)
    return rules.min_insync_replicas if own is None else int(own)


def unclean_leader_election(image: MetadataImage, rules: TopicRules, overrides: Mapping[str, str]) -> bool:
    own = overrides.get(UNCLEAN_LEADER_ELECTION)
    if own is None:
        own = image.broker_configs.get(keys.CLUSTER_DEFAULT, {}).get(UNCLEAN_LEADER_ELECTION)
    return rules.unclean_leader_election if own is None else own.strip().lower() == "true"


def current_config(static: BrokerConfig, image: MetadataImage) -> BrokerConfig:
    """server.properties overridden by the stored dynamic configs."""
    default = image.broker_configs.get("", {})
    own = image.broker_configs.get(str(static.node_id), {})
    if not default and not own:
        return static
    try:
        return with_dynamic(static, default=default, own=own)
    except UserError:
        # Checked against another broker's file and invalid with this one's: it has no effect here.
        return static
