"""The ``.snapshot`` file: Kafka's producer snapshot, version 1, byte for byte.

``int16 version, uint32 crc32c of what follows, int32 count`` and 44 fixed bytes per producer, big-endian.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from crc32c import crc32c

from tierlog.types import Buffer

SNAPSHOT_VERSION = 1
_HEAD = Struct(">hIi")
_COUNT = Struct(">i")
_ENTRY = Struct(">qhiqiqiq")
_CRC_END = 6


class CorruptSnapshot(ValueError):
    """Not a whole version 1 snapshot: the caller drops the file and replays from an older one."""


class SnapshotEntry(NamedTuple):
    """Field order is the file's. ``offset_delta``: last minus first offset of the last batch."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int
    coordinator_epoch: int
    txn_first_offset: int


def encode_snapshot(entries: Iterable[SnapshotEntry]) -> bytes:
    rows = [_ENTRY.pack(*entry) for entry in entries]
    body = _COUNT.pack(len(rows)) + b"".join(rows)
    return _HEAD.pack(SNAPSHOT_VERSION, crc32c(body), len(rows)) + body[_COUNT.size :]


def decode_snapshot(data: Buffer) -> list[SnapshotEntry]:
    """Raises CorruptSnapshot for another version, a wrong size or a wrong CRC."""
    if len(data) < _HEAD.size:
        raise CorruptSnapshot(f"{len(data)} bytes")
    version, crc, count = _HEAD.unpack_from(data)
    if version != SNAPSHOT_VERSION:
        raise CorruptSnapshot(f"version {version}")
    body = memoryview(data)[_CRC_END:]
    if count < 0 or len(body) != _COUNT.size + count * _ENTRY.size:
        raise CorruptSnapshot(f"{count} entries announced in {len(data)} bytes")
    if crc32c(body) != crc:
        raise CorruptSnapshot("CRC does not match")
    return [SnapshotEntry._make(row) for row in _ENTRY.iter_unpack(body[_COUNT.size :])]
