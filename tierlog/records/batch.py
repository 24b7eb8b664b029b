"""The 61-byte header of a v2 record batch: read, check, stamp in place.

The checksum covers everything from ``attributes`` on, so a leader writes base offset and leader epoch into a
batch without changing it. Magic 0 and 1 are refused with Kafka's codes. Nothing here ever raises ``IndexError``
or ``struct.error``: a wrong size is an ``InvalidBatch``, which carries the ``ErrorCode`` of the answer.

Positions are byte positions in the given buffer; ``end`` is exclusive.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from crc32c import crc32c

from tierlog.errors import ErrorCode, MalformedMessage
from tierlog.types import Buffer

HEADER_BYTES = 61
LOG_OVERHEAD_BYTES = 12
MAGIC_V2 = 2

LENGTH_AT = 8
LEADER_EPOCH_AT = 12
MAGIC_AT = 16
CRC_AT = 17
ATTRIBUTES_AT = 21
LAST_OFFSET_DELTA_AT = 23
BASE_TIMESTAMP_AT = 27
MAX_TIMESTAMP_AT = 35
PRODUCER_ID_AT = 43
PRODUCER_EPOCH_AT = 51
BASE_SEQUENCE_AT = 53
COUNT_AT = 57

COMPRESSION_MASK = 0x07
LOG_APPEND_TIME_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
DELETE_HORIZON_BIT = 0x40

HEADER = Struct(">qiibIhiqqqhii")
_INT64 = Struct(">q")
_INT32 = Struct(">i")
_UINT32 = Struct(">I")
_INT16 = Struct(">h")
_PREFIX = Struct(">qii")
_unpack_header = HEADER.unpack_from
_new_tuple = tuple.__new__


class InvalidBatch(MalformedMessage):
    """Bytes that are no acceptable v2 batch. ``error_code`` is the code that answers a produce request."""

    def __init__(self, error_code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.error_code = error_code


class Compression(IntEnum):
    """Codec ids as they stand in the attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


class TimestampType(IntEnum):
    CREATE_TIME = 0
    LOG_APPEND_TIME = 1


class BatchHeader(NamedTuple):
    """The header as it stands in the buffer. Offsets are inclusive, timestamps in ms."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records_count: int

    @property
    def size_bytes(self) -> int:
        """Size of the whole batch, including the 12 bytes of offset and length."""
        return LOG_OVERHEAD_BYTES + self.batch_length

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        """Sequence of the last offset; wraps at 2^31; -1 without a producer sequence."""
        if self.base_sequence < 0:
            return self.base_sequence
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF

    @property
    def compression(self) -> Compression:
        """Raises InvalidBatch for an unknown codec id."""
        try:
            return Compression(self.attributes & COMPRESSION_MASK)
        except ValueError:
            raise InvalidBatch(
                ErrorCode.CORRUPT_MESSAGE, f"unknown compression {self.attributes & COMPRESSION_MASK}"
            ) from None

    @property
    def timestamp_type(self) -> TimestampType:
        return TimestampType((self.attributes & LOG_APPEND_TIME_BIT) >> 3)

    @property
    def is_transactional(self) -> bool:
        return self.attributes & TRANSACTIONAL_BIT != 0

    @property
    def is_control(self) -> bool:
        return self.attributes & CONTROL_BIT != 0

    @property
    def has_delete_horizon(self) -> bool:
        return self.attributes & DELETE_HORIZON_BIT != 0

    @property
    def delete_horizon_ms(self) -> int | None:
        """When tombstones of this batch may go (KIP-534); stored in place of the base timestamp."""
        return self.base_timestamp if self.attributes & DELETE_HORIZON_BIT else None

    @property
    def has_producer_id(self) -> bool:
        return self.producer_id >= 0


def parse_header(buf: Buffer, pos: int = 0) -> BatchHeader:
    """The header at ``pos``; the body need not be in the buffer.

    Raises InvalidBatch: fewer than 61 bytes, another magic, an impossible batch length.
    """
    if pos < 0 or len(buf) - pos < HEADER_BYTES:
        raise _refusal(buf, pos)
    header = _new_tuple(BatchHeader, _unpack_header(buf, pos))
    if (
        header.magic != MAGIC_V2
        or header.batch_length < HEADER_BYTES - LOG_OVERHEAD_BYTES
        or header.last_offset_delta < 0
    ):
        raise _refusal(buf, pos)
    return header


def _refusal(buf: Buffer, pos: int) -> InvalidBatch:
    """Why ``parse_header`` refused: the slow half, off the hot path."""
    available = len(buf) - pos
    if pos >= 0 and available > MAGIC_AT:
        magic = buf[pos + MAGIC_AT]
        if magic in (0, 1):
            return InvalidBatch(ErrorCode.INVALID_RECORD, f"message format v{magic} is no longer accepted")
        if magic != MAGIC_V2:
            return InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"unknown magic {magic}")
    if pos < 0 or available < HEADER_BYTES:
        return InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{max(available, 0)} bytes are no batch header")
    _, length, _ = _PREFIX.unpack_from(buf, pos)
    if length < HEADER_BYTES - LOG_OVERHEAD_BYTES:
        return InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"batch length {length}")
    return InvalidBatch(ErrorCode.INVALID_RECORD, "negative last offset delta")


def verify_crc(buf: Buffer, pos: int, header: BatchHeader) -> bool:
    """Whether the CRC32C of the batch at ``pos`` holds; False also when its end is beyond the buffer."""
    end = pos + LOG_OVERHEAD_BYTES + header.batch_length
    if end > len(buf):
        return False
    return bool(crc32c(memoryview(buf)[pos + ATTRIBUTES_AT : end]) == header.crc)


def stamp(buf: bytearray | memoryview, pos: int, base_offset: int, leader_epoch: int) -> None:
    """Write base offset and leader epoch in place; the CRC does not cover them."""
    _INT64.pack_into(buf, pos, base_offset)
    _INT32.pack_into(buf, pos + LEADER_EPOCH_AT, leader_epoch)


def restamp(buf: bytearray | memoryview, pos: int, header: BatchHeader, append_time_ms: int) -> None:
    """Turn the batch to LogAppendTime in place: attribute bit, max timestamp, CRC. Records stay untouched:
    readers take every record's time from the header."""
    _INT16.pack_into(buf, pos + ATTRIBUTES_AT, header.attributes | LOG_APPEND_TIME_BIT)
    _INT64.pack_into(buf, pos + MAX_TIMESTAMP_AT, append_time_ms)
    seal(buf, pos, header.size_bytes)


def seal(buf: bytearray | memoryview, pos: int, size_bytes: int) -> None:
    """Compute and write the CRC of the batch ``[pos, pos + size_bytes)``."""
    _UINT32.pack_into(buf, pos + CRC_AT, crc32c(memoryview(buf)[pos + ATTRIBUTES_AT : pos + size_bytes]))


def walk(buf: Buffer, start: int = 0, end: int | None = None) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each batch in ``[start, end)``; CRCs are not checked.

    Raises InvalidBatch at the first one that is malformed or cut off.
    """
    stop = len(buf) if end is None else end
    while start < stop:
        if stop - start < HEADER_BYTES:
            raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{stop - start} bytes after the last batch")
        header = parse_header(buf, start)
        following = start + LOG_OVERHEAD_BYTES + header.batch_length
        if following > stop:
            raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "batch is cut off")
        yield start, header
        start = following


def walk_whole(buf: Buffer, start: int = 0, end: int | None = None) -> Iterator[tuple[int, BatchHeader]]:
    """As ``walk``, but ends silently before a batch that is cut off (the tail of a chunk or of a fetch
    reply).

    Raises InvalidBatch only for a malformed header.
    """
    stop = len(buf) if end is None else end
    while stop - start >= HEADER_BYTES:
        header = parse_header(buf, start)
        following = start + LOG_OVERHEAD_BYTES + header.batch_length
        if following > stop:
            return
        yield start, header
        start = following
