"""Hand-written Fetch responses: one ``pack`` per partition, for partitions that carry nothing but records.

As in ``fast_produce``, the compiled function handles everything else. Hand-written for v11 (the last plain layout,
spoken by librdkafka 2.0, aiokafka and kafkajs) and for v12 on.
"""

from __future__ import annotations

from struct import Struct as Layout

from tierlog.types import Buffer
from tierlog.wire.messages.fetch import (
    EpochEndOffset,
    FetchResponse,
    LeaderIdAndEpoch,
    PartitionData,
    SnapshotId,
)
from tierlog.wire.schema import Encoder, shared_default

PLAIN = 11
FLEXIBLE = 12
TOPIC_IDS = 13
MAX_BYTES = (1 << 28) - 1  # what a varint of four bytes holds

_no_epoch = shared_default(EpochEndOffset)
_no_leader = shared_default(LeaderIdAndEpoch)
_no_snapshot = shared_default(SnapshotId)

# The first byte is the partition count of the topic, or the empty tag section of the partition before. The last
# bytes are the length of the records plus one, as a varint.
_partition_1 = Layout(">BihqqqBiB").pack
_partition_2 = Layout(">BihqqqBiBB").pack
_partition_3 = Layout(">BihqqqBiBBB").pack
_partition_4 = Layout(">BihqqqBiBBBB").pack
_head = Layout(">ihiB").pack
_plain_head = Layout(">ihii").pack
_plain_partition = Layout(">ihqqqiii").pack
_count = Layout(">i").pack
_name_length = Layout(">h").pack


def fetch_encoder(version: int, generic: Encoder) -> Encoder:
    """The writer of FetchResponse at ``version``; ``generic`` is the compiled one."""
    if version >= FLEXIBLE:
        by_id = version >= TOPIC_IDS
        return lambda message: _encode_flexible(message, by_id) or generic(message)
    if version == PLAIN:
        return lambda message: _encode_plain(message) or generic(message)
    return generic


def _encode_flexible(message: FetchResponse, by_id: bool) -> list[Buffer] | None:
    """None when the message holds a field that this encoder does not handle."""
    topics = message.responses
    if message.node_endpoints or len(topics) > 126:
        return None
    iovecs: list[Buffer] = []
    pending = _head(message.throttle_time_ms, message.error_code, message.session_id, len(topics) + 1)
    for topic in topics:
        if by_id:
            key = topic.topic_id
            if len(key) != 16:
                return None
        else:
            name = topic.topic.encode()
            if len(name) > 126:
                return None
            key = b"%c%b" % (len(name) + 1, name)
        before = len(topic.partitions) + 1
        if before > 127:
            return None
        pending += key
        for partition in topic.partitions:
            records = partition.records
            if records is None or partition.aborted_transactions or not _carries_only_records(partition):
                return None
            several = records.__class__ is list or records.__class__ is tuple
            size = sum(map(len, records)) if several else len(records)  # type: ignore[arg-type]
            if size >= MAX_BYTES:
                return None
            pending += _partition_bytes(before, partition, size + 1)
            before = 0
            if size:
                iovecs.append(pending)
                pending = b""
                if several:
                    iovecs.extend(records)  # type: ignore[arg-type]
                else:
                    iovecs.append(records)  # type: ignore[arg-type]
        pending += b"%c\0" % before
    iovecs.append(pending + b"\0")
    return iovecs


def _carries_only_records(partition: PartitionData) -> bool:
    return (
        partition.current_leader is _no_leader
        and partition.diverging_epoch is _no_epoch
        and partition.snapshot_id is _no_snapshot
    )


def _fields(before: int, partition: PartitionData) -> tuple[int, ...]:
    return (
        before,
        partition.partition_index,
        partition.error_code,
        partition.high_watermark,
        partition.last_stable_offset,
        partition.log_start_offset,
        partition.aborted_transactions is not None,
        partition.preferred_read_replica,
    )


def _partition_bytes(before: int, partition: PartitionData, length: int) -> bytes:
    """The bytes of a partition up to its records; ``length`` is that of the records plus one."""
    fields = _fields(before, partition)
    if length < 128:
        return _partition_1(*fields, length)
    if length < 1 << 14:
        return _partition_2(*fields, length & 127 | 128, length >> 7)
    if length < 1 << 21:
        return _partition_3(*fields, length & 127 | 128, length >> 7 & 127 | 128, length >> 14)
    return _partition_4(
        *fields, length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21
    )


def _encode_plain(message: FetchResponse) -> list[Buffer] | None:
    """As ``_encode_flexible``; there are no tags to look for."""
    iovecs: list[Buffer] = []
    topics = message.responses
    pending = _plain_head(message.throttle_time_ms, message.error_code, message.session_id, len(topics))
    for topic in topics:
        name = topic.topic.encode()
        pending += _name_length(len(name)) + name + _count(len(topic.partitions))
        for partition in topic.partitions:
            records = partition.records
            if records is None or partition.aborted_transactions:
                return None
            several = records.__class__ is list or records.__class__ is tuple
            size = sum(map(len, records)) if several else len(records)  # type: ignore[arg-type]
            pending += _plain_partition(
                partition.partition_index,
                partition.error_code,
                partition.high_watermark,
                partition.last_stable_offset,
                partition.log_start_offset,
                -(partition.aborted_transactions is None),
                partition.preferred_read_replica,
                size,
            )
            if size:
                iovecs.append(pending)
                pending = b""
                if several:
                    iovecs.extend(records)  # type: ignore[arg-type]
                else:
                    iovecs.append(records)  # type: ignore[arg-type]
    if pending:
        iovecs.append(pending)
    return iovecs
