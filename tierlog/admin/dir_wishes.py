"""Requests the log directories that a plan names from the brokers that hold the replicas (KIP-113). A replica that was just
assigned appears within moments; the request waits for that."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tierlog.admin.client import Client
from tierlog.admin.errors import describe_error
from tierlog.errors import ErrorCode
from tierlog.metadata.control.reassignment_plan import ANY_DIR, Move
from tierlog.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopic,
)

APPEARS_WITHIN_S = 10.0
POLL_S = 0.2
NOT_YET = (ErrorCode.REPLICA_NOT_AVAILABLE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

# broker, path → partitions by topic
Wishes = dict[tuple[int, str], dict[str, list[int]]]


def ask(client: Client, moves: Sequence[Move]) -> dict[str, str]:
    """Begins the moves between directories. Returns the failures by partition."""
    wishes: Wishes = {}
    for move in moves:
        for broker_id, path in zip(move.replicas, move.log_dirs, strict=False):
            if path != ANY_DIR:
                wishes.setdefault((broker_id, path), {}).setdefault(move.topic, []).append(move.partition)
    deadline_s = time.monotonic() + APPEARS_WITHIN_S
    while True:
        refused = {name: error for wish in wishes.items() for name, error in _ask_one(client, *wish).items()}
        is_over = time.monotonic() >= deadline_s
        if is_over or not any(error in NOT_YET for error in refused.values()):
            return {name: describe_error(error) for name, error in refused.items()}
        time.sleep(POLL_S)


def _ask_one(client: Client, where: tuple[int, str], topics: dict[str, list[int]]) -> dict[str, ErrorCode]:
    """Repeating a request for a move that is under way changes nothing."""
    broker_id, path = where
    wanted = [AlterReplicaLogDirTopic(name=topic, partitions=indexes) for topic, indexes in topics.items()]
    request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=path, topics=wanted)])
    answer = client.node(broker_id).request(request, AlterReplicaLogDirsResponse)
    return {
        f"{result.topic_name}-{row.partition_index} on broker {broker_id}": ErrorCode(row.error_code)
        for result in answer.results
        for row in result.partitions
        if row.error_code
    }
