"""Turns the batches of a ``__consumer_offsets`` partition into the events that rebuild its shard.

Only the last record of a key counts, as compaction promises, so a compacted and an uncompacted log give the
same shard. Hence ``feed`` keeps raw values by raw key, and nothing is decoded before ``events``. Records of a
transaction count from its commit marker on and are dropped at an abort (KIP-98).

Bound: the live keys of the partition and the records of its open transactions.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from struct import error as StructError

from tierlog.coordination.records import Event, decode_event
from tierlog.errors import ErrorCode, MalformedMessage
from tierlog.records.batch import (
    CONTROL_BIT,
    HEADER_BYTES,
    LOG_OVERHEAD_BYTES,
    MAGIC_V2,
    TRANSACTIONAL_BIT,
    BatchHeader,
    InvalidBatch,
    parse_header,
)
from tierlog.records.control import read_end_transaction_marker
from tierlog.records.records import records_body
from tierlog.records.spans import record_spans
from tierlog.records.varint import decode_varint
from tierlog.types import Buffer

COMPRESSION_BITS = 0x07
NOT_PLAIN = COMPRESSION_BITS | TRANSACTIONAL_BIT | CONTROL_BIT
_PLAIN_HEADER = Struct(">8xi4xb4xh34xi")  # batch length, magic, attributes, records count


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    """The value and the position behind it. One-byte varints are tried first, since nearly all are."""
    value = data[pos]
    if value < 0x80:
        return (value >> 1) ^ -(value & 1), pos + 1
    return decode_varint(data, pos)


class LogReplay:
    """Feed it the log in order, then take the events. ``malformed_count``: records that were skipped because they cannot be
    read, plus batches whose rest was skipped. Nothing else is lost by them."""

    __slots__ = ("_last", "_open", "malformed_count")

    def __init__(self) -> None:
        self._last: dict[bytes, bytes | None] = {}
        self._open: dict[int, dict[bytes, bytes | None]] = {}  # producer id -> records of its transaction
        self.malformed_count = 0

    def feed(self, batches: Buffer) -> None:
        """Takes whole batches. Raises InvalidBatch if the start of the next batch cannot be determined."""
        data = bytes(batches)
        position = 0
        while position < len(data):
            position = self._feed_plain(data, position)
            if position < len(data):
                header = parse_header(data, position)
                if position + header.size_bytes > len(data):
                    raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "batch is cut off")
                try:
                    self._feed_other(data, position, header)
                except (MalformedMessage, ValueError, IndexError):
                    self.malformed_count += 1
                position += header.size_bytes

    def _feed_plain(self, data: bytes, position: int) -> int:
        """Takes batches that are neither compressed nor of a transaction; returns the position behind them.

        Nearly all batches are such, most of one record, and a load has to read up to a segment of them: this
        loop is the load time. It does what ``_feed_other`` does in a third of the time, and leaves all other
        batches to that.
        """
        size_bytes = len(data)
        while position + HEADER_BYTES <= size_bytes:
            batch_length, magic, attributes, count = _PLAIN_HEADER.unpack_from(data, position)
            following = position + LOG_OVERHEAD_BYTES + batch_length
            if magic != MAGIC_V2 or attributes & NOT_PLAIN or following > size_bytes:
                return position
            if following < position + HEADER_BYTES:
                raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"batch of length {batch_length}")
            try:
                self._take_plain(data, position, following, count)
            except (InvalidBatch, IndexError, ValueError):
                self.malformed_count += 1
            position = following
        return position

    def _take_plain(self, data: bytes, position: int, following: int, count: int) -> None:
        """Takes the records of one batch. Raises on a malformed record; those before it are taken."""
        last = self._last
        pos = position + HEADER_BYTES
        for _ in range(count):
            end, pos = _varint(data, pos)
            end += pos
            pos += 1  # attributes
            while data[pos] & 0x80:  # timestamp delta
                pos += 1
            pos += 1
            while data[pos] & 0x80:  # offset delta
                pos += 1
            key_size, key_at = _varint(data, pos + 1)
            if end > following or end <= position:
                raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "record is longer than its batch")
            if key_size < 0:
                self.malformed_count += 1
                pos = end
                continue
            value_size, value_at = _varint(data, key_at + key_size)
            if value_at + max(value_size, 0) > end:
                raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "record is longer than its length says")
            key = data[key_at : key_at + key_size]
            last[key] = data[value_at : value_at + value_size] if value_size >= 0 else None
            pos = end
        if pos != following:
            raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "bytes after the last record")

    def _feed_other(self, data: bytes, position: int, header: BatchHeader) -> None:
        if header.is_control:
            self._end_transaction(data, position, header)
        elif header.is_transactional:
            self._take(data, position, header, self._open.setdefault(header.producer_id, {}))
        else:
            self._take(data, position, header, self._last)

    def _take(self, data: bytes, position: int, header: BatchHeader, into: dict[bytes, bytes | None]) -> None:
        body = records_body(data, position, header)
        for span in record_spans(body, header.records_count):
            _, _, _, _, key_start, key_end, value_start, value_end = span
            if key_start < 0:
                self.malformed_count += 1
            else:
                into[body[key_start:key_end]] = body[value_start:value_end] if value_start >= 0 else None

    def _end_transaction(self, data: bytes, position: int, header: BatchHeader) -> None:
        marker = read_end_transaction_marker(data, position, header)
        if marker is None:
            return
        records = self._open.pop(header.producer_id, {})
        if marker.is_commit:
            self._last.update(records)

    def events(self) -> Iterator[Event]:
        """The events to replay, one per live key; the order does not matter, since keys are independent."""
        for key, value in self._last.items():
            if value is None:
                continue
            try:
                event = decode_event(key, value)
            except (MalformedMessage, ValueError, IndexError, AssertionError, StructError):
                # Any error of a decoder is caught: to stop here would lose all groups after this record.
                self.malformed_count += 1
                continue
            if event is not None:
                yield event
