"""Where the records of an uncompressed body lie: the fast walk for compaction, timestamps and validation.

One tuple per record and no objects; about a microsecond each. Values are never copied.
"""

from __future__ import annotations

from typing import TypeAlias

from tierlog.errors import ErrorCode
from tierlog.records.batch import InvalidBatch
from tierlog.records.varint import decode_varint

MIN_RECORD_BYTES = 7

# (start, end, timestamp delta, offset delta, key start, key end, value start, value end), byte positions in
# the body; key or value start is -1 when it is null. [start, end) is the record with its length; its
# headers begin at the value's end.
Span: TypeAlias = tuple[int, int, int, int, int, int, int, int]


def bounded_count(count: int, remaining_bytes: int, min_item_bytes: int) -> None:
    """Raises InvalidBatch when so many items cannot be in so few bytes."""
    if count < 0 or count * min_item_bytes > remaining_bytes:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{count} items announced in {remaining_bytes} bytes")


def record_spans(body: bytes, count: int) -> list[Span]:
    """Spans of exactly ``count`` records that fill ``body``. Raises InvalidBatch otherwise."""
    if not 0 <= count * MIN_RECORD_BYTES <= len(body):
        bounded_count(count, len(body), MIN_RECORD_BYTES)
    spans: list[Span] = []
    pos = 0
    try:
        for _ in range(count):
            start = pos
            length = body[pos]
            pos += 1
            if length < 0x80:
                length = (length >> 1) ^ -(length & 1)
            else:
                length, pos = decode_varint(body, start)
            end = pos + length
            pos += 1  # attributes: none are defined
            timestamp_delta = body[pos]
            pos += 1
            if timestamp_delta < 0x80:
                timestamp_delta = (timestamp_delta >> 1) ^ -(timestamp_delta & 1)
            else:
                timestamp_delta, pos = decode_varint(body, pos - 1)
            offset_delta = body[pos]
            pos += 1
            if offset_delta < 0x80:
                offset_delta = (offset_delta >> 1) ^ -(offset_delta & 1)
            else:
                offset_delta, pos = decode_varint(body, pos - 1)
            key_bytes = body[pos]
            pos += 1
            if key_bytes < 0x80:
                key_bytes = (key_bytes >> 1) ^ -(key_bytes & 1)
            else:
                key_bytes, pos = decode_varint(body, pos - 1)
            key_start = -1
            if key_bytes >= 0:
                key_start = pos
                pos += key_bytes
            key_end = pos
            value_bytes = body[pos]
            pos += 1
            if value_bytes < 0x80:
                value_bytes = (value_bytes >> 1) ^ -(value_bytes & 1)
            else:
                value_bytes, pos = decode_varint(body, pos - 1)
            value_start = -1
            if value_bytes >= 0:
                value_start = pos
                pos += value_bytes
            if pos >= end or key_bytes < -1 or value_bytes < -1:
                raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "record is longer than its length says")
            spans.append((start, end, timestamp_delta, offset_delta, key_start, key_end, value_start, pos))
            pos = end
    except (IndexError, ValueError) as e:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"record is cut off: {e}") from e
    if pos != len(body):
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{len(body) - pos} bytes after the last record")
    return spans


def record_keys(body: bytes, count: int) -> list[tuple[int, int, int]]:
    """(offset delta, key start, key end) of exactly ``count`` records that fill ``body``; key start -1 for
    null.

    Values are jumped over unread, so this is the walk for building compaction's offset map. Raises
    InvalidBatch."""
    if not 0 <= count * MIN_RECORD_BYTES <= len(body):
        bounded_count(count, len(body), MIN_RECORD_BYTES)
    keys: list[tuple[int, int, int]] = []
    pos = 0
    try:
        for _ in range(count):
            length = body[pos]
            if length < 0x80:
                pos += 1
                length = (length >> 1) ^ -(length & 1)
            else:
                length, pos = decode_varint(body, pos)
            end = pos + length
            pos += 1
            while body[pos] > 0x7F:  # timestamp delta
                pos += 1
            pos += 1
            offset_delta = body[pos]
            if offset_delta < 0x80:
                pos += 1
                offset_delta = (offset_delta >> 1) ^ -(offset_delta & 1)
            else:
                offset_delta, pos = decode_varint(body, pos)
            key_bytes = body[pos]
            if key_bytes < 0x80:
                pos += 1
                key_bytes = (key_bytes >> 1) ^ -(key_bytes & 1)
            else:
                key_bytes, pos = decode_varint(body, pos)
            if key_bytes < 0:
                keys.append((offset_delta, -1, -1))
            else:
                keys.append((offset_delta, pos, pos + key_bytes))
                pos += key_bytes
            if pos >= end:
                raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "record is longer than its length says")
            pos = end
    except (IndexError, ValueError) as e:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"record is cut off: {e}") from e
    if pos != len(body):
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{len(body) - pos} bytes after the last record")
    return keys
