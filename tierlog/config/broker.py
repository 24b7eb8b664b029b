"""``BrokerConfig``: a broker's properties, typed, with every default filled in.

Rules of the file: a field is named as Kafka's property with dots as underscores (``num.partitions`` is
``num_partitions``), so that nobody has to look it up; own properties follow the same rule
(``tierlog.object.store`` is ``tierlog_object_store``). Only honoured properties have a field. Units are
those of the property (``_ms``, ``_bytes``, ``_hours``…); -1 means unlimited where Kafka says so. Topic
defaults (``log.*``) are gathered in ``topic_defaults``. ``given`` keeps the properties as they were
written, for DescribeConfigs. ``BrokerConfig()`` is valid and equals an empty server.properties. An
advertised host of "" is the machine's name, which the broker looks up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from tierlog.config.topic import TopicConfig


@dataclass(frozen=True, slots=True)
class Listener:
    """One address to listen on, or to advertise. Host "" is every interface; port 0 picks a free one."""

    name: str
    host: str
    port: int
    security_protocol: str = "PLAINTEXT"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Defaults are Kafka 4.4's, except for the socket buffers (see ``broker_table``) and ``tierlog.*``."""

    # identity and place
    node_id: int = 0
    broker_rack: str | None = None
    tierlog_host: str | None = None  # None: the machine's boot id
    tierlog_cluster_id: str | None = None  # None: made at the first start and kept in the metadata store
    tierlog_metadata_store_accept_empty: bool = False

    # network
    listeners: tuple[Listener, ...] = (Listener("PLAINTEXT", "", 9092),)
    advertised_listeners: tuple[Listener, ...] = (Listener("PLAINTEXT", "", 9092),)
    inter_broker_listener_name: str = "PLAINTEXT"
    tierlog_http_listeners: tuple[Listener, ...] = ()  # metrics and health; names are "HTTP"
    max_connections: int = 2**31 - 1
    max_connections_per_ip: int = 2**31 - 1
    max_connections_per_ip_overrides: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    connections_max_idle_ms: int = 600_000
    socket_send_buffer_bytes: int = -1
    socket_receive_buffer_bytes: int = -1
    socket_listen_backlog_size: int = 50
    socket_request_max_bytes: int = 104_857_600
    queued_max_request_bytes: int = -1
    request_timeout_ms: int = 30_000
    tierlog_request_memory_bytes: int = 67_108_864  # bound of all in-flight request bytes together
    tierlog_reply_memory_bytes: int = 134_217_728  # replies of all connections that wait or are being read
    tierlog_connection_output_bytes: int = 8_388_608  # replies of one connection that wait for its socket

    # metadata
    metadata_store: str = field(default="sqlite:/tmp/kafka-logs/tierlog/metadata.db", repr=False)
    tierlog_etcd_prefix: str = "/tierlog"  # prefix of the cluster's keys in etcd
    tierlog_etcd_user: str | None = None
    tierlog_etcd_password: str | None = field(default=None, repr=False)
    tierlog_etcd_ca_file: str | None = None  # None: no TLS
    tierlog_etcd_cert_file: str | None = None
    tierlog_etcd_key_file: str | None = None
    broker_session_timeout_ms: int = 9000
    broker_heartbeat_interval_ms: int = 2000
    controlled_shutdown_enable: bool = True
    auto_leader_rebalance_enable: bool = True
    leader_imbalance_check_interval_seconds: int = 300

    # topics
    auto_create_topics_enable: bool = True
    num_partitions: int = 1
    default_replication_factor: int = 1
    delete_topic_enable: bool = True
    topic_defaults: TopicConfig = field(default_factory=TopicConfig)
    flush_mode: str | None = (
        None  # None: "ack" with one replica, "os" with more (see topic_configs.flush_mode)
    )

    # log
    log_dirs: tuple[str, ...] = ("/tmp/kafka-logs",)
    cordoned_log_dirs: tuple[str, ...] = ()  # get no new partitions; "*": all of them
    num_recovery_threads_per_data_dir: int = 2
    log_retention_check_interval_ms: int = 300_000
    log_flush_scheduler_interval_ms: int = 2**63 - 1
    log_flush_offset_checkpoint_interval_ms: int = 60_000
    log_flush_start_offset_checkpoint_interval_ms: int = 60_000
    log_initial_task_delay_ms: int = 30_000
    log_cleaner_enable: bool = True
    log_cleaner_dedupe_buffer_size: int = 134_217_728
    log_cleaner_backoff_ms: int = 15_000
    producer_id_expiration_ms: int = 86_400_000
    producer_id_expiration_check_interval_ms: int = 600_000
    tierlog_disk_reserve_bytes: int = 67_108_864
    tierlog_writeback_bytes: int = 8_388_608  # writeback of a log starts every so many appended bytes

    # fetch and replication
    fetch_max_bytes: int = 57_671_680
    max_incremental_fetch_session_cache_slots: int = 1000
    replica_high_watermark_checkpoint_interval_ms: int = 5000
    follower_replication_throttled_rate: int = 2**63 - 1  # bytes per second of the replicas that topics list
    leader_replication_throttled_rate: int = 2**63 - 1
    tierlog_replay_fetch_max_bytes_per_second: int = 2**63 - 1
    replica_fetch_backoff_ms: int = 1000
    replica_fetch_max_bytes: int = 1_048_576
    replica_fetch_min_bytes: int = 1
    replica_fetch_response_max_bytes: int = 10_485_760
    replica_fetch_wait_max_ms: int = 500
    replica_lag_time_max_ms: int = 30_000
    replica_selector_class: str | None = None  # None: consumers read from the leader
    replica_socket_timeout_ms: int = 30_000

    # groups
    offsets_topic_num_partitions: int = 50
    offsets_topic_replication_factor: int = 3
    offsets_topic_segment_bytes: int = 104_857_600
    offsets_retention_minutes: int = 10_080
    offsets_retention_check_interval_ms: int = 600_000
    offset_metadata_max_bytes: int = 4096
    group_min_session_timeout_ms: int = 6000
    group_max_session_timeout_ms: int = 1_800_000
    group_initial_rebalance_delay_ms: int = 3000
    group_max_size: int = 2**31 - 1

    # tiered storage
    remote_log_storage_system_enable: bool = False
    # An S3 URL's options may be credentials.
    tierlog_object_store: str = field(default="dir:/tmp/kafka-logs/tierlog/objects", repr=False)
    tierlog_remote_delete_grace_ms: int = 60_000
    tierlog_remote_sweep_interval_ms: int = 86_400_000
    tierlog_remote_sweep_requests_per_hour: int = 1_000
    remote_log_manager_task_interval_ms: int = 30_000
    remote_log_manager_copy_max_bytes_per_second: int = 2**63 - 1
    remote_log_manager_fetch_max_bytes_per_second: int = 2**63 - 1
    remote_log_index_file_cache_total_size_bytes: int = 1_073_741_824
    remote_fetch_max_wait_ms: int = 500
    remote_list_offsets_request_timeout_ms: int = 30_000
    tierlog_chunk_cache_memory_bytes: int = 134_217_728
    tierlog_chunk_bytes: int = 4_194_304
    tierlog_remote_cache_dir: str | None = None
    tierlog_remote_cache_max_bytes: int = 0  # 0: no disk cache
    tierlog_ledger_enable: bool = True
    tierlog_ledger_flush_interval_ms: int = 3_600_000
    tierlog_ledger_retention_days: int = 400
    tierlog_upload_concurrency: int = 2

    # as written, for DescribeConfigs and for the log lines at the start; values may be secrets
    given: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    dynamic: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    dynamic_default: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    meaningless: tuple[str, ...] = ()  # Kafka properties that are known and have no effect here
    remarks: tuple[str, ...] = ()  # one line for each property that Kafka removed and that has no effect

    @property
    def log_dir(self) -> str:
        """The first directory of this process's logs."""
        return self.log_dirs[0]

    def with_origins(
        self, given: Mapping[str, str], dynamic: Mapping[str, str], dynamic_default: Mapping[str, str]
    ) -> BrokerConfig:
        """The same values, with the record of which texts came from the file and which from AlterConfigs."""
        return replace(
            self,
            given=MappingProxyType(dict(given)),
            dynamic=MappingProxyType(dict(dynamic)),
            dynamic_default=MappingProxyType(dict(dynamic_default)),
        )

    def listener(self, name: str) -> Listener:
        """The bound listener of that name. Raises KeyError."""
        for listener in self.listeners:
            if listener.name == name:
                return listener
        raise KeyError(name)

    def advertised(self, name: str) -> Listener:
        """The address that Metadata answers on the listener of that name. Raises KeyError."""
        for listener in self.advertised_listeners:
            if listener.name == name:
                return listener
        raise KeyError(name)


def request_memory_bytes(config: BrokerConfig) -> int:
    """Bound of all requests in flight: Kafka's property if it sets a bound, else tierlog's own."""
    if config.queued_max_request_bytes > 0:
        return config.queued_max_request_bytes
    return config.tierlog_request_memory_bytes
