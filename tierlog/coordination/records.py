"""The events of a shard and their form in ``__consumer_offsets``: Kafka's own records, key and value.

A key begins with its type as int16: 0 and 1 are an offset of (group, topic, partition), 2 is the metadata of
a group. A value begins with its version. This coordinator reads every version. It writes GroupMetadataValue 3
and OffsetCommitValue 3, which every tool knows; but OffsetCommitValue 1 if the client asked for its own expiry
(KIP-211), and 4, the first flexible one, only to keep the topic id of an offset that Kafka wrote. Other key
types belong to protocols that are not served, and are skipped. Strings that came over the wire have at most
32,767 bytes, so they fit these forms.

Events and record bytes convert both ways: ``decode_event(*encode_event(e)) == e``. Deciding and replaying use
events, so that the hot path encodes once and never decodes. Many events are encoded by ``encode_events``, in the kernel
where there is one and where they are ordinary commits and removals.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from tierlog.errors import MalformedMessage
from tierlog.kernel import compiled
from tierlog.records.records import Record, encode_record
from tierlog.types import Buffer
from tierlog.wire.codec import decode, encode_bytes
from tierlog.wire.messages.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
)
from tierlog.wire.schema import ZERO_UUID

OFFSET_KEYS = (b"\x00\x00", b"\x00\x01")
GROUP_KEY = b"\x00\x02"

_KEY_HEAD = struct.Struct(">hh")
_KEY_MIDDLE = struct.Struct(">h")
_KEY_TAIL = struct.Struct(">i")
_VALUE_1_HEAD = struct.Struct(">hqh")
_VALUE_1_TAIL = struct.Struct(">qq")
_VALUE_3_HEAD = struct.Struct(">hqih")
_VALUE_3_TAIL = struct.Struct(">q")


class CommittedOffset(NamedTuple):
    """A group's committed offset in one partition: the next one to consume. ``expire_timestamp_ms`` -1: the
    broker's retention applies."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_timestamp_ms: int
    expire_timestamp_ms: int = -1
    topic_id: bytes = ZERO_UUID


class OffsetCommitted(NamedTuple):
    """``committed`` None removes the offset (a tombstone)."""

    group_id: str
    topic: str
    partition: int
    committed: CommittedOffset | None


class GroupStored(NamedTuple):
    """The group's generation, members and assignments; ``metadata`` None removes the group (a tombstone)."""

    group_id: str
    metadata: GroupMetadataValue | None


Event: TypeAlias = OffsetCommitted | GroupStored


def encode_event(event: Event) -> tuple[bytes, bytes | None]:
    """Key and value of the record; the value of a removal is None."""
    if isinstance(event, OffsetCommitted):
        return _offset_key(event), None if event.committed is None else _offset_value(event.committed)
    group = event.group_id.encode()
    key = GROUP_KEY + _KEY_MIDDLE.pack(len(group)) + group
    return key, None if event.metadata is None else _group_value(event.metadata)


def encode_events(events: Sequence[Event], start: int, bytes_max: int) -> tuple[bytes, int]:
    """The records of the events from ``start`` on, one behind the other as in a batch whose timestamps are all the same, and
    where they end: at most ``bytes_max``, but always one record."""
    if compiled is not None:
        found: tuple[bytes, int] | None = compiled.offset_records(events, start, bytes_max)
        if found is not None:
            return found
    records: list[bytes] = []
    size_bytes = 0
    for number in range(start, len(events)):
        key, value = encode_event(events[number])
        record = encode_record(Record(key, value), number - start, 0)
        size_bytes += len(record)
        if size_bytes > bytes_max and records:
            break
        records.append(record)
    return b"".join(records), start + len(records)


def decode_event(key: Buffer, value: Buffer | None) -> Event | None:
    """The event of a record, None for a key type that is not served. Raises MalformedMessage."""
    kind = bytes(key[:2])
    if kind in OFFSET_KEYS:
        position, _ = decode(OffsetCommitKey, 0, key, 2)
        return OffsetCommitted(
            position.group, position.topic, position.partition, None if value is None else _read_offset(value)
        )
    if kind == GROUP_KEY:
        group, _ = decode(GroupMetadataKey, 0, key, 2)
        return GroupStored(group.group, None if value is None else _read_group(value))
    return None


def _offset_key(event: OffsetCommitted) -> bytes:
    group = event.group_id.encode()
    topic = event.topic.encode()
    return b"".join(
        (
            _KEY_HEAD.pack(1, len(group)),
            group,
            _KEY_MIDDLE.pack(len(topic)),
            topic,
            _KEY_TAIL.pack(event.partition),
        )
    )


def _offset_value(committed: CommittedOffset) -> bytes:
    offset, leader_epoch, text, commit_timestamp_ms, expire_timestamp_ms, topic_id = committed
    metadata = text.encode()
    if expire_timestamp_ms != -1:
        tail = _VALUE_1_TAIL.pack(commit_timestamp_ms, expire_timestamp_ms)
        return _VALUE_1_HEAD.pack(1, offset, len(metadata)) + metadata + tail
    if topic_id == ZERO_UUID:
        tail = _VALUE_3_TAIL.pack(commit_timestamp_ms)
        return _VALUE_3_HEAD.pack(3, offset, leader_epoch, len(metadata)) + metadata + tail
    value = OffsetCommitValue(
        offset=offset,
        leader_epoch=leader_epoch,
        metadata=text,
        commit_timestamp=commit_timestamp_ms,
        topic_id=topic_id,
    )
    return b"\x00\x04" + encode_bytes(value, 4)


def _group_value(metadata: GroupMetadataValue) -> bytes:
    return b"\x00\x03" + encode_bytes(metadata, 3)


def _version(value: Buffer) -> int:
    version = int.from_bytes(value[:2], "big")
    if len(value) < 2 or version > 4:
        raise MalformedMessage(f"group record value of version {version}")
    return version


def _read_offset(value: Buffer) -> CommittedOffset:
    read, _ = decode(OffsetCommitValue, _version(value), value, 2)
    return CommittedOffset(
        read.offset,
        read.leader_epoch,
        read.metadata,
        read.commit_timestamp,
        read.expire_timestamp,
        read.topic_id,
    )


def _read_group(value: Buffer) -> GroupMetadataValue:
    metadata, _ = decode(GroupMetadataValue, _version(value), value, 2)
    for member in metadata.members:
        # The decoder returns slices of the record's buffer, but the group outlives it.
        member.subscription = bytes(member.subscription)
        member.assignment = bytes(member.assignment)
    return metadata
