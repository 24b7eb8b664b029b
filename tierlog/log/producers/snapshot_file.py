"""The ``.snapshot`` file: Kafka's producer snapshot, version 1, followed by batches that Kafka's leaves out.

``int16 version, uint32 crc32c of the rest, int32 count`` and 44 fixed bytes per producer, big-endian. Kafka keeps the last
batch of each producer. After a crash right after a roll, the retry of an older unanswered batch then fails with
OUT_OF_ORDER_SEQUENCE_NUMBER. So the up to four batches before the last one follow: ``int8 format version, int32 count`` and
32 bytes each, oldest first. Kafka's checksum covers these bytes and its reader ignores them; files without them
are read as well.
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
EARLIER_VERSION = 1
_EARLIER_HEAD = Struct(">bi")
_EARLIER = Struct(">qqiiq")


class CorruptSnapshot(ValueError):
    """Not a whole version 1 snapshot: the caller drops the file and replays from an older one."""


class SnapshotEntry(NamedTuple):
    """Fields in file order. ``last_offset`` inclusive; ``offset_delta``: last minus first offset of the last batch;
    ``txn_first_offset``: first offset of the open transaction, -1 without one."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int
    coordinator_epoch: int
    txn_first_offset: int


class EarlierBatch(NamedTuple):
    """A batch before the last one of its producer."""

    producer_id: int
    first_offset: int
    offset_delta: int
    first_sequence: int
    timestamp: int


def encode_snapshot(entries: Iterable[tuple[int, ...]], earlier: Iterable[tuple[int, ...]] = ()) -> bytes:
    """``entries``: tuples with the fields of SnapshotEntry; ``earlier``: with those of EarlierBatch."""
    rows = [_ENTRY.pack(*entry) for entry in entries]
    body = _COUNT.pack(len(rows)) + b"".join(rows)
    batches = [_EARLIER.pack(*batch) for batch in earlier]
    if batches:
        body += _EARLIER_HEAD.pack(EARLIER_VERSION, len(batches)) + b"".join(batches)
    return _HEAD.pack(SNAPSHOT_VERSION, crc32c(body), len(rows)) + body[_COUNT.size :]


def decode_snapshot(data: Buffer) -> list[SnapshotEntry]:
    """Raises CorruptSnapshot for another version, a wrong size or a wrong CRC."""
    return decode_whole_snapshot(data)[0]


def decode_whole_snapshot(data: Buffer) -> tuple[list[SnapshotEntry], list[EarlierBatch]]:
    """As ``decode_snapshot``, with the earlier batches."""
    if len(data) < _HEAD.size:
        raise CorruptSnapshot(f"{len(data)} bytes")
    version, crc, count = _HEAD.unpack_from(data)
    if version != SNAPSHOT_VERSION:
        raise CorruptSnapshot(f"version {version}")
    body = memoryview(data)[_CRC_END:]
    end = _COUNT.size + count * _ENTRY.size
    if count < 0 or len(body) < end:
        raise CorruptSnapshot(f"{count} entries announced in {len(data)} bytes")
    if crc32c(body) != crc:
        raise CorruptSnapshot("CRC does not match")
    return [SnapshotEntry._make(row) for row in _ENTRY.iter_unpack(body[_COUNT.size : end])], _earlier(
        body[end:]
    )


def _earlier(tail: memoryview) -> list[EarlierBatch]:
    if not len(tail):
        return []
    if len(tail) < _EARLIER_HEAD.size:
        raise CorruptSnapshot(f"{len(tail)} bytes behind the entries")
    version, count = _EARLIER_HEAD.unpack_from(tail)
    if version != EARLIER_VERSION:
        raise CorruptSnapshot(f"earlier batches of version {version}")
    if count < 0 or len(tail) != _EARLIER_HEAD.size + count * _EARLIER.size:
        raise CorruptSnapshot(f"{count} earlier batches announced in {len(tail)} bytes")
    return [EarlierBatch._make(row) for row in _EARLIER.iter_unpack(tail[_EARLIER_HEAD.size :])]
