"""AlterReplicaLogDirs (key 34), versions 1-2: moves replicas between the log directories of this broker (KIP-113).

Behaviour: the answer comes when the requested move is on the disk, so that a restart goes on with it; DescribeLogDirs shows
the future replica until the move is done. Naming the directory where a replica already is cancels its move. A directory that
is not in ``log.dirs`` is LOG_DIR_NOT_FOUND; one that has failed, or in which the request cannot be written down, is
KAFKA_STORAGE_ERROR. A replica that this broker does not have is REPLICA_NOT_AVAILABLE.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import in_slices
from tierlog.errors import ErrorCode
from tierlog.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)

if TYPE_CHECKING:
    from tierlog.broker.disk.log_dirs import LogDir
    from tierlog.broker.handlers.services import Services
    from tierlog.broker.replicas.partition import Partition


async def handle(
    services: Services, ctx: RequestContext, request: AlterReplicaLogDirsRequest
) -> AlterReplicaLogDirsResponse:
    response = AlterReplicaLogDirsResponse()
    topics: dict[str, AlterReplicaLogDirTopicResult] = {}
    wanted: list[tuple[Partition, LogDir]] = []
    rows: dict[tuple[str, int], list[AlterReplicaLogDirPartitionResult]] = {}
    named = ((asked.path, t.name, n) for asked in request.dirs for t in asked.topics for n in t.partitions)
    log_dirs: dict[str, LogDir | None] = {}
    async for path, name, index in in_slices(named):
        result = topics.get(name)
        if result is None:
            result = topics[name] = AlterReplicaLogDirTopicResult(topic_name=name)
            response.results.append(result)
        if path not in log_dirs:
            log_dirs[path] = _log_dir(services, path)
        found = _found(services, log_dirs[path], name, index)
        row = AlterReplicaLogDirPartitionResult(partition_index=index)
        result.partitions.append(row)
        rows.setdefault((name, index), []).append(row)
        if isinstance(found, ErrorCode):
            row.error_code = found
        else:
            wanted.append(found)
    for failed in await services.dir_moves.move(wanted):
        for row in rows[failed.topic, failed.partition]:
            row.error_code = ErrorCode.KAFKA_STORAGE_ERROR
    return response


def _log_dir(services: Services, path: str) -> LogDir | None:
    wanted = Path(path).absolute()
    return next((d for d in services.replicas.log_dirs if d.path.absolute() == wanted), None)


def _found(
    services: Services, log_dir: LogDir | None, topic: str, index: int
) -> tuple[Partition, LogDir] | ErrorCode:
    if log_dir is None:
        return ErrorCode.LOG_DIR_NOT_FOUND
    if not log_dir.is_online:
        return ErrorCode.KAFKA_STORAGE_ERROR
    partition = services.replicas.by_name(topic, index)
    if isinstance(partition, ErrorCode):
        is_elsewhere = partition is ErrorCode.NOT_LEADER_OR_FOLLOWER
        return ErrorCode.REPLICA_NOT_AVAILABLE if is_elsewhere else partition
    return ErrorCode.KAFKA_STORAGE_ERROR if partition.offline is not None else (partition, log_dir)
