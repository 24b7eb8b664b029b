"""ListOffsets (key 2), versions 1-11.

Behaviour: earliest (-2), latest (-1: high watermark, or last stable offset for read_committed), the record with the
largest timestamp (-3, KIP-734), the first local offset (-4), the last offset in the remote tier (-5, KIP-1005), the
first offset not copied yet (-6, KIP-1023), or the first record at or after a timestamp. The answers are the same before
and after local deletion: records that are not on this disk are looked up in the remote tier. Timestamps are looked up off
the loop, within ``timeout_ms`` from version 10 on (KIP-1075) and ``remote.list.offsets.request.timeout.ms`` before; a
slower lookup is REQUEST_TIMED_OUT. A stored batch that cannot be opened is CORRUPT_MESSAGE, of its partition alone. An
unknown offset is -1. While a new leader's high watermark may still be below its predecessor's, requests that depend on it
are answered OFFSET_NOT_AVAILABLE (KIP-207), before version 5 LEADER_NOT_AVAILABLE.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.slices import Steps
from tierlog.errors import ErrorCode, StorageError
from tierlog.log.timestamps import TimestampedOffset
from tierlog.records.batch import InvalidBatch
from tierlog.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6
READ_COMMITTED = 1
# The first version that knows each special timestamp; in older ones it is as invalid as any other negative number.
_SINCE = {
    LATEST: 1,
    EARLIEST: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}
# Answered only once the high watermark has reached the start of the leader's epoch (KIP-207).
_NEEDS_END = frozenset({LATEST, MAX_TIMESTAMP})
_SPECIAL = frozenset(_SINCE) - {MAX_TIMESTAMP}
_LEADER_EPOCH_SINCE = 4
# Lookups of one request that run at once; the others wait for their turn.
LOOKUPS_AT_ONCE = 8
_NOT_AVAILABLE_SINCE = 5
_NEVER = 2**15


def handle(
    services: Services, ctx: RequestContext, request: ListOffsetsRequest
) -> Steps[ListOffsetsResponse | Awaitable[ListOffsetsResponse]]:
    response = ListOffsetsResponse()
    slow: list[tuple[ListOffsetsPartitionResponse, ListOffsetsPartition, Partition, int]] = []
    topics: dict[str, ListOffsetsTopicResponse] = {}
    counts: Counter[tuple[str, int]] = Counter()
    for topic in request.topics:
        yield
        for asked in topic.partitions:
            counts[topic.name, asked.partition_index] += 1
            yield
    for name, asked, is_repeated in distinct(request, counts):
        yield
        answered = topics.get(name)
        if answered is None:
            answered = topics[name] = ListOffsetsTopicResponse(name=name)
            response.topics.append(answered)
        entry = ListOffsetsPartitionResponse(partition_index=asked.partition_index)
        answered.partitions.append(entry)
        if is_repeated:
            entry.error_code = ErrorCode.INVALID_REQUEST
            continue
        if asked.timestamp < 0 and ctx.api_version < _SINCE.get(asked.timestamp, _NEVER):
            entry.error_code = ErrorCode.UNSUPPORTED_VERSION
            continue
        found = services.replicas.by_name(name, asked.partition_index)
        error = found if isinstance(found, ErrorCode) else refusal(found, asked, ctx.api_version)
        if error or isinstance(found, ErrorCode):
            entry.error_code = error
            continue
        committed_only = request.isolation_level == READ_COMMITTED
        end = found.last_stable_offset if committed_only else found.high_watermark
        if asked.timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD) and is_tier_unread(found):
            slow.append((entry, asked, found, end))
        elif asked.timestamp in _SPECIAL:
            entry.offset = special_offset(found, asked.timestamp, end)
            entry.leader_epoch = epoch_of(found, entry.offset)
        else:
            slow.append((entry, asked, found, end))
    if not slow:
        return as_of_version(response, ctx.api_version)
    timeout_ms = services.replicas.config.remote_list_offsets_request_timeout_ms
    if ctx.api_version >= 10 and request.timeout_ms > 0:
        timeout_ms = min(timeout_ms, request.timeout_ms)
    deadline_s = services.loop.time() + timeout_ms / 1000
    return look_up_all(services, response, slow, deadline_s, ctx.api_version)


def refusal(partition: Partition, asked: ListOffsetsPartition, version: int) -> ErrorCode:
    """The error if this broker does not lead, or is a new leader that may not tell yet where the log ends (KIP-207)."""
    error = partition.check_leadership(asked.current_leader_epoch)
    if error or (asked.timestamp not in _NEEDS_END and asked.timestamp < 0):
        return error
    assert partition.leader is not None
    if partition.leader.is_watermark_settled:
        return ErrorCode.NONE
    is_known = version >= _NOT_AVAILABLE_SINCE
    return ErrorCode.OFFSET_NOT_AVAILABLE if is_known else ErrorCode.LEADER_NOT_AVAILABLE


def distinct(
    request: ListOffsetsRequest, counts: Counter[tuple[str, int]]
) -> Iterator[tuple[str, ListOffsetsPartition, bool]]:
    """Yields each partition once: (topic, partition, whether it is named more than once)."""
    for topic in request.topics:
        for asked in topic.partitions:
            count = counts.pop((topic.name, asked.partition_index), 0)
            if count:
                yield topic.name, asked, count > 1


def as_of_version(response: ListOffsetsResponse, version: int) -> ListOffsetsResponse:
    """The response without leader epochs for versions that have no field for them."""
    if version < _LEADER_EPOCH_SINCE:
        for topic in response.topics:
            for entry in topic.partitions:
                entry.leader_epoch = -1
    return response


def special_offset(partition: Partition, timestamp: int, end: int) -> int:
    """The offset for one of the special timestamps; -1 if there is none."""
    remote = partition.remote
    if timestamp == LATEST:
        return end
    if timestamp == EARLIEST:
        return partition.log_start_offset
    if timestamp == EARLIEST_LOCAL:
        return partition.log.local_log_start_offset
    if remote is None or not remote.is_loaded:
        return -1
    has_remote = remote.end_offset > remote.start_offset
    if timestamp == LATEST_TIERED:
        return remote.end_offset - 1 if has_remote else -1
    return max(remote.end_offset if has_remote else 0, partition.log_start_offset)


def is_tier_unread(partition: Partition) -> bool:
    """Whether the tier head is not read yet, as just after this broker began to lead."""
    return partition.remote is not None and not partition.remote.is_loaded


def epoch_of(partition: Partition, offset: int) -> int:
    epoch = partition.log.epochs.epoch_for_offset(offset) if offset >= 0 else None
    return -1 if epoch is None else epoch


def needs_remote(partition: Partition) -> bool:
    return partition.log.local_log_start_offset > partition.log_start_offset


async def local_lookup(
    services: Services, partition: Partition, timestamp: int, deadline_s: float
) -> TimestampedOffset | ErrorCode | None:
    log = partition.log
    question = log.max_timestamp_question() if timestamp == MAX_TIMESTAMP else log.time_question(timestamp)
    try:
        return await services.time_lookups.answer(question, deadline_s)
    except TimeoutError:
        return ErrorCode.REQUEST_TIMED_OUT
    except InvalidBatch as error:
        services.time_lookups.complain(str(partition.topic_partition), error)
        return ErrorCode.CORRUPT_MESSAGE
    except StorageError as error:
        partition.storage_failed(error)
        return ErrorCode.KAFKA_STORAGE_ERROR


def fill(entry: ListOffsetsPartitionResponse, found: TimestampedOffset | None, end: int) -> None:
    """Fills the entry with the found record, unless its offset is at or above ``end``: such a record is not visible yet."""
    if found is not None and found.offset < end:
        entry.timestamp, entry.offset, entry.leader_epoch = found


async def look_up_all(
    services: Services,
    response: ListOffsetsResponse,
    slow: list[tuple[ListOffsetsPartitionResponse, ListOffsetsPartition, Partition, int]],
    deadline_s: float,
    version: int,
) -> ListOffsetsResponse:
    waiting = iter(slow)

    async def one_after_another() -> None:
        for entry, asked, partition, end in waiting:
            if services.loop.time() < deadline_s:
                await look_up(services, entry, asked, partition, end, deadline_s)
            else:
                entry.error_code = ErrorCode.REQUEST_TIMED_OUT

    await asyncio.gather(*(one_after_another() for _ in range(min(LOOKUPS_AT_ONCE, len(slow)))))
    return as_of_version(response, version)


async def look_up(
    services: Services,
    entry: ListOffsetsPartitionResponse,
    asked: ListOffsetsPartition,
    partition: Partition,
    end: int,
    deadline_s: float,
) -> None:
    remote_reads = services.remote_reads
    if asked.timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        if await remote_reads.is_known(partition, deadline_s):
            entry.offset = special_offset(partition, asked.timestamp, end)
            entry.leader_epoch = epoch_of(partition, entry.offset)
        else:
            entry.error_code = ErrorCode.REQUEST_TIMED_OUT
        return
    remote: TimestampedOffset | ErrorCode | None = None
    if not needs_remote(partition):
        pass
    elif asked.timestamp == MAX_TIMESTAMP:
        remote = await remote_reads.max_timestamp(partition, deadline_s)
    else:
        remote = await remote_reads.offset_for_timestamp(partition, asked.timestamp, deadline_s)
    if isinstance(remote, ErrorCode):
        entry.error_code = remote
        return
    local = await local_lookup(services, partition, asked.timestamp, deadline_s)
    if isinstance(local, ErrorCode):
        entry.error_code = local
        return
    fill(entry, merge(asked.timestamp, remote, local, partition.log_start_offset), end)


def merge(
    timestamp: int, remote: TimestampedOffset | None, local: TimestampedOffset | None, log_start_offset: int
) -> TimestampedOffset | None:
    """Chooses the remote or the local record: the one with the lower offset, or for MAX_TIMESTAMP the larger timestamp. A
    remote record below the log start is ignored."""
    if remote is None or remote.offset < log_start_offset:
        return local
    if local is None:
        return remote
    if timestamp == MAX_TIMESTAMP:
        return local if local.timestamp > remote.timestamp else remote
    return min(remote, local, key=lambda found: found.offset)
