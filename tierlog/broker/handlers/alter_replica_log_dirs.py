"""AlterReplicaLogDirs (key 34), versions 1-2: moves replicas between the log directories of this broker (KIP-113).

Behaviour: answered when the move is begun; DescribeLogDirs shows the future replica until it is done. Naming the directory
where a replica is takes back a move of it. A place that is none of ``log.dirs`` is LOG_DIR_NOT_FOUND, one that has failed
KAFKA_STORAGE_ERROR; replicas that this broker does not have are REPLICA_NOT_AVAILABLE.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tierlog.broker.context import RequestContext
from tierlog.errors import ErrorCode
from tierlog.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)

if TYPE_CHECKING:
    from tierlog.broker.services import Services


def handle(
    services: Services, ctx: RequestContext, request: AlterReplicaLogDirsRequest
) -> AlterReplicaLogDirsResponse:
    response = AlterReplicaLogDirsResponse()
    topics: dict[str, AlterReplicaLogDirTopicResult] = {}
    for wanted in request.dirs:
        for topic in wanted.topics:
            if not topic.partitions:
                continue
            result = topics.get(topic.name)
            if result is None:
                result = topics[topic.name] = AlterReplicaLogDirTopicResult(topic_name=topic.name)
                response.results.append(result)
            for index in topic.partitions:
                error = _error(services, wanted.path, topic.name, index)
                result.partitions.append(
                    AlterReplicaLogDirPartitionResult(partition_index=index, error_code=error)
                )
    return response


def _error(services: Services, path: str, topic: str, index: int) -> ErrorCode:
    wanted = Path(path).absolute()
    log_dir = next((d for d in services.replicas.log_dirs if d.path.absolute() == wanted), None)
    if log_dir is None:
        return ErrorCode.LOG_DIR_NOT_FOUND
    if not log_dir.is_online:
        return ErrorCode.KAFKA_STORAGE_ERROR
    partition = services.replicas.by_name(topic, index)
    if not isinstance(partition, ErrorCode):
        if partition.offline is not None:
            return ErrorCode.KAFKA_STORAGE_ERROR
        services.dir_moves.move(partition, log_dir)
        return ErrorCode.NONE
    return ErrorCode.REPLICA_NOT_AVAILABLE if partition is ErrorCode.NOT_LEADER_OR_FOLLOWER else partition
