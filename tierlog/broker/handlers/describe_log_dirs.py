"""DescribeLogDirs (key 35), versions 1-5: the log directories of this broker, their partitions, size and room.

Behaviour: null topics mean all; sizes are local bytes; the lag is always 0 for a leader. A failed directory is answered with
its error alone. Volume sizes from 4 on (KIP-827), cordons from 5 on (KIP-1066).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.errors import ErrorCode
from tierlog.wire.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from tierlog.broker.disk.log_dirs import LogDir
    from tierlog.broker.handlers.services import Services
    from tierlog.broker.replicas.partition import Partition


def handle(
    services: Services, ctx: RequestContext, request: DescribeLogDirsRequest
) -> Steps[DescribeLogDirsResponse]:
    wanted: dict[str, set[int]] | None = None
    if request.topics is not None:
        wanted = {}
        for asked in request.topics:
            wanted[asked.topic] = set(asked.partitions)
            yield
    response = DescribeLogDirsResponse()
    for log_dir in services.replicas.log_dirs:
        if not log_dir.is_online:
            failed = DescribeLogDirsResult(
                error_code=ErrorCode.KAFKA_STORAGE_ERROR, log_dir=str(log_dir.path)
            )
            response.results.append(failed)
            continue
        space = log_dir.space()
        result = DescribeLogDirsResult(
            log_dir=str(log_dir.path),
            total_bytes=space.total_bytes,
            usable_bytes=space.usable_bytes,
            is_cordoned=services.replicas.is_cordoned(log_dir),
        )
        response.results.append(result)
        topics: dict[str, DescribeLogDirsTopic] = {}
        for partition, future_bytes in _in(services, log_dir):
            yield
            name, index = partition.topic_partition
            if wanted is not None and index not in wanted.get(name, ()):
                continue
            topic = topics.get(name)
            if topic is None:
                topic = topics[name] = DescribeLogDirsTopic(name=name)
                result.topics.append(topic)
            topic.partitions.append(_row(partition, future_bytes))
    return response


def _in(services: Services, log_dir: LogDir) -> Iterator[tuple[Partition, int | None]]:
    """The replicas in the directory (with None), and the future replicas that move there (with the bytes copied so far)."""
    for partition in list(services.replicas.in_log_dir(log_dir)):
        yield partition, None
    for partition in list(services.replicas):
        future = services.dir_moves.future_of(partition)
        if future is not None and future[0] is log_dir:
            yield partition, future[1]


def _row(partition: Partition, future_bytes: int | None) -> DescribeLogDirsPartition:
    index, follower, log = partition.topic_partition.partition, partition.follower, partition.log
    if future_bytes is None:
        lag = 0 if follower is None else follower.lag(log.log_end_offset)
        return DescribeLogDirsPartition(partition_index=index, partition_size=log.size_bytes, offset_lag=lag)
    # The lag in offsets, estimated from the share of the bytes that is missing.
    missing = max(log.size_bytes - future_bytes, 0) / max(log.size_bytes, 1)
    return DescribeLogDirsPartition(
        partition_index=index,
        partition_size=future_bytes,
        offset_lag=int(missing * (log.log_end_offset - log.local_log_start_offset)),
        is_future_key=True,
    )
