"""Where the records of an uncompressed body lie: the fast walk for compaction, timestamps and validation.

One tuple per record and no objects; about a microsecond each. Values are never copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from tierlog.errors import ErrorCode
from tierlog.records.batch import InvalidBatch
from tierlog.records.varint import decode_varint

MIN_RECORD_BYTES = 7
LARGE_RECORD_BYTES = 1 << 20
# Records of one batch, where all are held at once: some 300 bytes each.
RECORDS_AT_ONCE_MAX = 1_000_000
# Upper bound of a record's length, attributes, both deltas and key length together.
_RECORD_HEAD_BYTES = 41

# (start, end, timestamp delta, offset delta, key start, key end, value start, value end), byte positions in
# the body; key or value start is -1 when it is null. [start, end) is the record with its length; its
# headers begin at the value's end.
Span: TypeAlias = tuple[int, int, int, int, int, int, int, int]


def bounded_count(count: int, remaining_bytes: int, min_item_bytes: int) -> None:
    """Raises InvalidBatch when ``count`` items cannot fit into the remaining bytes."""
    if count < 0 or count * min_item_bytes > remaining_bytes:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{count} items announced in {remaining_bytes} bytes")
    if count > RECORDS_AT_ONCE_MAX:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{count} records in one batch")


def record_spans(body: bytes, count: int) -> list[Span]:
    """Spans of exactly ``count`` records that fill ``body``. Raises InvalidBatch otherwise."""
    if not 0 <= count * MIN_RECORD_BYTES <= len(body) or count > RECORDS_AT_ONCE_MAX:
        bounded_count(count, len(body), MIN_RECORD_BYTES)
    spans: list[Span] = []
    pos = take_spans(body, 0, count, spans)
    if len(spans) < count:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "record is cut off")
    if pos != len(body):
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{len(body) - pos} bytes after the last record")
    return spans


def take_spans(body: bytes, pos: int, count: int, spans: list[Span]) -> int:
    """Add the spans of ``count`` records from ``pos`` on, or of as many as are whole in ``body``. Returns where it stopped.

    Raises InvalidBatch for a malformed record."""
    size = len(body)
    try:
        for _ in range(count):
            start, end = pos, -1
            length = body[pos]
            pos += 1
            if length < 0x80:
                length = (length >> 1) ^ -(length & 1)
            else:
                length, pos = decode_varint(body, start)
            end = pos + length
            if end > size:
                return start
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
        if end < 0 and e.__class__ is IndexError:
            return start
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"record is cut off: {e}") from e
    return pos


def span_groups(
    pieces: Iterator[bytes], count: int, *, whole_records: bool
) -> Iterator[tuple[bytes, list[Span]]]:
    """As ``record_spans``, for a body that comes in pieces and is never held as a whole: yields (part of the body, spans
    in it). Without ``whole_records`` the end of a record above ``LARGE_RECORD_BYTES`` is not read; only the deltas and
    whether the key is null can be relied on in its span.

    Raises InvalidBatch."""
    parts: list[bytes] = []
    held = wanted = to_skip = 0
    for each in pieces:
        piece = each
        if to_skip:
            skipped = min(to_skip, len(piece))
            to_skip -= skipped
            piece = piece[skipped:]
        parts.append(piece)
        held += len(piece)
        if held < wanted:
            continue
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        spans: list[Span] = []
        pos = take_spans(body, 0, count, spans)
        count -= len(spans)
        wanted = _record_bytes(body, pos) if count else 0
        if wanted > LARGE_RECORD_BYTES and not whole_records:
            if len(body) - pos < _RECORD_HEAD_BYTES:
                wanted = _RECORD_HEAD_BYTES
            else:
                spans.append(_head_of(body, pos))
                count -= 1
                to_skip, wanted, pos = wanted - (len(body) - pos), 0, len(body)
        if spans:
            yield body, spans
        parts = [body[pos:]]
        held = len(body) - pos
        if held and not count:
            break
    if count or to_skip:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{count} records are missing")
    if held:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "bytes after the last record")


def _record_bytes(body: bytes, pos: int) -> int:
    """Size of the record at ``pos`` with its length field; 1 more than the bytes left when even that is cut off."""
    try:
        length, after = decode_varint(body, pos)
    except IndexError:
        return len(body) - pos + 1
    except ValueError as e:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"record length: {e}") from e
    return after - pos + length


def _head_of(body: bytes, start: int) -> Span:
    try:
        _, pos = decode_varint(body, start)
        timestamp_delta, pos = decode_varint(body, pos + 1)
        offset_delta, pos = decode_varint(body, pos)
        key_bytes, pos = decode_varint(body, pos)
    except (IndexError, ValueError) as e:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"record: {e}") from e
    key_start = pos if key_bytes >= 0 else -1
    return (start, len(body), timestamp_delta, offset_delta, key_start, len(body), -1, len(body))


def record_keys(body: bytes, count: int) -> list[tuple[int, int, int]]:
    """(offset delta, key start, key end) of exactly ``count`` records that fill ``body``; key start -1 for
    null.

    Values are jumped over unread, so this is the walk for building compaction's offset map. Raises
    InvalidBatch."""
    if not 0 <= count * MIN_RECORD_BYTES <= len(body) or count > RECORDS_AT_ONCE_MAX:
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
