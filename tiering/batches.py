"""The few facts of Kafka's record batches (format v2) that the tier needs: where one ends and which offsets it covers.

Layout of the 61-byte header, big-endian: base offset i64, batch length i32 (bytes behind this field),
partition leader epoch i32, magic i8, CRC32C u32 (over everything behind it), attributes i16, last offset
delta i32, base timestamp i64, max timestamp i64, producer id i64, producer epoch i16, base sequence i32,
record count i32.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from tiering.errors import CorruptObject

Buffer: TypeAlias = bytes | bytearray | memoryview

WholeBelow: TypeAlias = Callable[[Buffer, int], tuple[int, int]]
"""``whole_below`` in one call, for any data: it stops at whatever is no whole batch."""

HEADER_BYTES = 61
LENGTH_END = 12
"""Base offset and batch length: a batch is this plus its length field."""
CRC_START = 21
"""First byte that the CRC covers."""
MAGIC = 2

_HEADER = struct.Struct(">qiibIhiqq")
_EXTENT = struct.Struct(">qi")
_LAST_DELTA = struct.Struct(">i")
_MAX_TIMESTAMP = struct.Struct(">q")


class BatchHeader(NamedTuple):
    """The fields of a batch header that the tier uses."""

    base_offset: int
    size_bytes: int
    """The whole batch, header included."""
    leader_epoch: int
    magic: int
    crc: int
    end_offset: int
    """Exclusive: base offset + last offset delta + 1."""
    max_timestamp_ms: int


def read_header(data: Buffer, position: int) -> BatchHeader:
    """The header at ``position``; at least ``HEADER_BYTES`` must follow there."""
    base, length, epoch, magic, crc, _attributes, last_delta, _base_ts, max_ts = _HEADER.unpack_from(
        data, position
    )
    return BatchHeader(base, length + LENGTH_END, epoch, magic, crc, base + last_delta + 1, max_ts)


def extent(data: Buffer, position: int) -> tuple[int, int, int]:
    """(base offset, end offset, size in bytes) of the batch at ``position``; ``HEADER_BYTES`` must follow."""
    base, length = _EXTENT.unpack_from(data, position)
    return base, base + _LAST_DELTA.unpack_from(data, position + 23)[0] + 1, length + LENGTH_END


def whole_below(data: Buffer, end_offset: int, at_once: WholeBelow | None = None) -> tuple[int, int]:
    """(bytes, end offset) of the batches at the start of ``data`` that end at or below ``end_offset``; (0, -1) if there are
    none. ``data`` holds whole batches. Raises ``CorruptObject``."""
    position, found = (0, -1) if at_once is None else at_once(data, end_offset)
    while position < len(data):
        base, end, size_bytes = extent(data, position)
        check_extent(base, end, size_bytes)
        if end > end_offset:
            break
        position, found = position + size_bytes, end
    return position, found


def max_timestamp(data: Buffer, position: int) -> int:
    return int(_MAX_TIMESTAMP.unpack_from(data, position + 35)[0])


def check_extent(base: int, end: int, size_bytes: int) -> None:
    """Raises ``CorruptObject`` unless a batch could have this extent: guards walks over bytes from outside."""
    if size_bytes < HEADER_BYTES or end <= base or base < 0:
        raise CorruptObject(f"no record batch: base offset {base}, end {end}, {size_bytes} bytes")
