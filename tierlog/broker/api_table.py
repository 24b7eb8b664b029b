"""The list of served APIs: the only place where a handler, its operation and its resource meet.

ApiVersions is derived from this table; an API that is not in it is neither served nor advertised.
"""

from __future__ import annotations

from types import ModuleType

from tierlog.broker.handlers import (
    alter_configs,
    alter_partition_reassignments,
    alter_replica_log_dirs,
    api_versions,
    create_partitions,
    create_topics,
    delete_groups,
    delete_records,
    delete_topics,
    describe_cluster,
    describe_configs,
    describe_groups,
    describe_log_dirs,
    describe_producers,
    describe_quorum,
    describe_topic_partitions,
    elect_leaders,
    fetch,
    find_coordinator,
    heartbeat,
    incremental_alter_configs,
    init_producer_id,
    join_group,
    leave_group,
    list_config_resources,
    list_groups,
    list_offsets,
    list_partition_reassignments,
    metadata,
    offset_commit,
    offset_delete,
    offset_fetch,
    offset_for_leader_epoch,
    produce,
    sync_group,
    unregister_broker,
    update_features,
)
from tierlog.broker.handlers.excess import bounded
from tierlog.broker.handlers.forwarding import by_the_controller
from tierlog.broker.handlers.services import Handler
from tierlog.broker.network.rows import Operation, Resource, Row, row


def admin(handler: ModuleType) -> Handler:
    """A handler whose requests the controller carries out, unless they are too large."""
    return bounded(by_the_controller(handler.handle), handler.items, handler.refuse)


ROWS: dict[int, Row] = {
    served.spec.key: served
    for served in (
        row(0, produce.handle, Operation.WRITE, Resource.TOPIC, in_place=True, pipelined=True, small=True),
        row(1, fetch.handle, Operation.READ, Resource.TOPIC, small=True),
        row(2, list_offsets.handle, Operation.DESCRIBE, Resource.TOPIC),
        row(3, metadata.handle, Operation.DESCRIBE, Resource.TOPIC, keeps=metadata.kept_replies),
        row(8, offset_commit.handle, Operation.READ, Resource.GROUP, pipelined=True, small=True),
        row(9, offset_fetch.handle, Operation.DESCRIBE, Resource.GROUP),
        row(10, find_coordinator.handle, Operation.DESCRIBE, Resource.GROUP, small=True),
        row(11, join_group.handle, Operation.READ, Resource.GROUP, small=True),
        row(12, heartbeat.handle, Operation.READ, Resource.GROUP, small=True),
        row(13, leave_group.handle, Operation.READ, Resource.GROUP, small=True),
        row(14, sync_group.handle, Operation.READ, Resource.GROUP, small=True),
        row(15, describe_groups.handle, Operation.DESCRIBE, Resource.GROUP),
        row(16, list_groups.handle, Operation.DESCRIBE, Resource.CLUSTER),
        row(18, api_versions.handle, Operation.NONE, Resource.NONE, small=True),
        row(19, admin(create_topics), Operation.CREATE, Resource.TOPIC, gives_up=True),
        row(20, admin(delete_topics), Operation.DELETE, Resource.TOPIC, gives_up=True),
        row(21, delete_records.handle, Operation.DELETE, Resource.TOPIC),
        row(22, init_producer_id.handle, Operation.IDEMPOTENT_WRITE, Resource.CLUSTER, small=True),
        row(23, offset_for_leader_epoch.handle, Operation.DESCRIBE, Resource.TOPIC),
        row(32, describe_configs.handle, Operation.DESCRIBE_CONFIGS, Resource.TOPIC),
        row(
            33,
            admin(alter_configs),
            Operation.ALTER_CONFIGS,
            Resource.TOPIC,
            gives_up=True,
        ),
        row(34, alter_replica_log_dirs.handle, Operation.ALTER, Resource.CLUSTER),
        row(35, describe_log_dirs.handle, Operation.DESCRIBE, Resource.CLUSTER),
        row(37, admin(create_partitions), Operation.ALTER, Resource.TOPIC, gives_up=True),
        row(42, delete_groups.handle, Operation.DELETE, Resource.GROUP),
        row(43, admin(elect_leaders), Operation.ALTER, Resource.CLUSTER, gives_up=True),
        row(
            44,
            admin(incremental_alter_configs),
            Operation.ALTER_CONFIGS,
            Resource.TOPIC,
            gives_up=True,
        ),
        row(
            45,
            admin(alter_partition_reassignments),
            Operation.ALTER,
            Resource.CLUSTER,
            gives_up=True,
        ),
        row(46, list_partition_reassignments.handle, Operation.DESCRIBE, Resource.CLUSTER),
        row(47, offset_delete.handle, Operation.DELETE, Resource.GROUP),
        row(55, describe_quorum.handle, Operation.DESCRIBE, Resource.CLUSTER),
        row(57, admin(update_features), Operation.ALTER, Resource.CLUSTER, gives_up=True),
        row(60, describe_cluster.handle, Operation.DESCRIBE, Resource.CLUSTER),
        row(61, describe_producers.handle, Operation.READ, Resource.TOPIC),
        row(
            64, by_the_controller(unregister_broker.handle), Operation.ALTER, Resource.CLUSTER, gives_up=True
        ),
        row(74, list_config_resources.handle, Operation.DESCRIBE_CONFIGS, Resource.CLUSTER),
        row(75, describe_topic_partitions.handle, Operation.DESCRIBE, Resource.TOPIC),
    )
}
NAMES = {key: row.spec.name for key, row in ROWS.items()}
