"""v2 records: whole batches built and read (KIP-82 headers, KIP-98 layout).

Not on the produce or fetch path. Keys, values and header values come back as memoryviews of the
(decompressed) body. Every function that opens a batch raises InvalidBatch, and nothing else, for bytes that
are no such batch; memory is bounded by ``compression``'s output limit and by counts checked against the
bytes that remain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from tierlog.errors import ErrorCode
from tierlog.records.batch import (
    COMPRESSION_MASK,
    CONTROL_BIT,
    HEADER,
    HEADER_BYTES,
    LOG_APPEND_TIME_BIT,
    LOG_OVERHEAD_BYTES,
    MAGIC_V2,
    TRANSACTIONAL_BIT,
    BatchHeader,
    Compression,
    InvalidBatch,
    TimestampType,
    seal,
)
from tierlog.records.compression import compress, decompress
from tierlog.records.spans import bounded_count, record_spans
from tierlog.records.varint import decode_varint, encode_varint
from tierlog.types import (
    NO_PARTITION_LEADER_EPOCH,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    Buffer,
)

RecordHeader: TypeAlias = tuple[str, Buffer | None]
_NULL = encode_varint(-1)
_NO_HEADERS = encode_varint(0)
_new_tuple = tuple.__new__


class Record(NamedTuple):
    """One record. ``offset``: set when read, ignored when built; ``timestamp`` in ms."""

    key: Buffer | None
    value: Buffer | None
    timestamp: int = NO_TIMESTAMP
    headers: tuple[RecordHeader, ...] = ()
    offset: int = -1


def encode_record(record: Record, offset_delta: int, timestamp_delta: int) -> bytes:
    """One record with its length in front."""
    key, value, headers = record.key, record.value, record.headers
    parts: list[Buffer] = [b"\0", encode_varint(timestamp_delta), encode_varint(offset_delta)]
    parts += (_NULL,) if key is None else (encode_varint(len(key)), key)
    parts += (_NULL,) if value is None else (encode_varint(len(value)), value)
    if headers:
        parts.append(encode_varint(len(headers)))
        for name, content in headers:
            encoded_name = name.encode()
            parts += (encode_varint(len(encoded_name)), encoded_name)
            parts += (_NULL,) if content is None else (encode_varint(len(content)), content)
    else:
        parts.append(_NO_HEADERS)
    body = b"".join(parts)
    return encode_varint(len(body)) + body


def build_batch(
    records: Sequence[Record],
    *,
    base_offset: int = 0,
    leader_epoch: int = NO_PARTITION_LEADER_EPOCH,
    compression: Compression = Compression.NONE,
    append_time_ms: int | None = None,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    is_transactional: bool = False,
    is_control: bool = False,
) -> bytearray:
    """A whole writable batch with a valid CRC; offsets run on from ``base_offset``.

    ``append_time_ms`` makes it a LogAppendTime batch. At least one record: only compaction writes empty batches."""
    assert records, "a batch has at least one record"
    base_timestamp = records[0].timestamp
    body = b"".join(
        [
            encode_record(record, delta, record.timestamp - base_timestamp)
            for delta, record in enumerate(records)
        ]
    )
    attributes = int(compression)
    if is_transactional:
        attributes |= TRANSACTIONAL_BIT
    if is_control:
        attributes |= CONTROL_BIT
    if append_time_ms is not None:
        attributes |= LOG_APPEND_TIME_BIT
        max_timestamp = append_time_ms
    else:
        max_timestamp = max([record.timestamp for record in records])
    packed = compress(compression, body) if attributes & COMPRESSION_MASK else body
    size_bytes = HEADER_BYTES + len(packed)
    batch = bytearray(size_bytes)
    HEADER.pack_into(
        batch,
        0,
        base_offset,
        size_bytes - LOG_OVERHEAD_BYTES,
        leader_epoch,
        MAGIC_V2,
        0,
        attributes,
        len(records) - 1,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        len(records),
    )
    batch[HEADER_BYTES:] = packed
    seal(batch, 0, size_bytes)
    return batch


def batch_around(body: bytes, count: int, timestamp: int) -> bytearray:
    """A writable batch of ``count`` encoded records that all have this timestamp, so that their deltas are 0."""
    head = BatchHeader(
        base_offset=0,
        batch_length=0,
        partition_leader_epoch=NO_PARTITION_LEADER_EPOCH,
        magic=MAGIC_V2,
        crc=0,
        attributes=0,
        last_offset_delta=count - 1,
        base_timestamp=timestamp,
        max_timestamp=timestamp,
        producer_id=NO_PRODUCER_ID,
        producer_epoch=NO_PRODUCER_EPOCH,
        base_sequence=NO_SEQUENCE,
        records_count=count,
    )
    return assemble(head, body)


def assemble(header: BatchHeader, body: Buffer) -> bytearray:
    """A batch from ``header`` and its uncompressed records: compresses them with the header's codec, fills in
    batch length and CRC."""
    packed = compress(header.compression, body) if len(body) else body
    size_bytes = HEADER_BYTES + len(packed)
    batch = bytearray(size_bytes)
    HEADER.pack_into(batch, 0, header.base_offset, size_bytes - LOG_OVERHEAD_BYTES, *header[2:])
    batch[HEADER_BYTES:] = packed
    seal(batch, 0, size_bytes)
    return batch


def empty_batch(header: BatchHeader) -> bytearray:
    """The batch as compaction leaves it when all its records are gone: it keeps offsets, producer and sequences."""
    kept = header.attributes & (LOG_APPEND_TIME_BIT | TRANSACTIONAL_BIT | CONTROL_BIT)
    return assemble(header._replace(attributes=kept, base_timestamp=NO_TIMESTAMP, records_count=0), b"")


def records_body(buf: Buffer, pos: int, header: BatchHeader, limit_bytes: int | None = None) -> bytes:
    """The uncompressed records of the batch at ``pos``, as bytes (the fastest buffer to index); ``limit_bytes`` as in
    ``unpacked``.

    Raises InvalidBatch: cut off, corrupt, or decompressing beyond the bound."""
    end = pos + header.size_bytes
    if end > len(buf):
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "batch is cut off")
    if header.records_count == 0 and end == pos + HEADER_BYTES:
        return b""
    body = decompress(header.compression, memoryview(buf)[pos + HEADER_BYTES : end], limit_bytes)
    return body if isinstance(body, bytes) else bytes(body)


def read_records(buf: Buffer, pos: int, header: BatchHeader) -> list[Record]:
    """All records of the batch at ``pos``, decompressed; CRC unchecked.

    Raises InvalidBatch for anything but ``records_count`` whole records that fill the body."""
    body = records_body(buf, pos, header)
    view = memoryview(body)
    fixed_timestamp = header.max_timestamp if header.timestamp_type is TimestampType.LOG_APPEND_TIME else None
    base_offset, base_timestamp = header.base_offset, header.base_timestamp
    records: list[Record] = []
    for _, end, delta, offset_delta, key_start, key_end, value_start, value_end in record_spans(
        body, header.records_count
    ):
        fields = (
            view[key_start:key_end] if key_start >= 0 else None,
            view[value_start:value_end] if value_start >= 0 else None,
            base_timestamp + delta if fixed_timestamp is None else fixed_timestamp,
            ()
            if end - value_end == 1 and not body[value_end]
            else tuple(record_headers(body, view, value_end, end)),
            base_offset + offset_delta,
        )
        records.append(_new_tuple(Record, fields))
    return records


def record_headers(body: bytes, view: memoryview, pos: int, end: int) -> Iterator[RecordHeader]:
    """The headers of one record; they end at ``end``. Raises InvalidBatch."""
    try:
        count, pos = decode_varint(body, pos)
        bounded_count(count, end - pos, 2)
        for _ in range(count):
            length, pos = decode_varint(body, pos)
            if length < 0 or pos + length > end:
                raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"header name of {length} bytes")
            name = body[pos : pos + length].decode()
            pos += length
            length, pos = decode_varint(body, pos)
            if pos + max(length, 0) > end:
                raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"header value of {length} bytes")
            yield name, view[pos : pos + length] if length >= 0 else None
            pos += max(length, 0)
    except (IndexError, ValueError) as e:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"record header: {e}") from e
    if pos != end:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "bytes after the last record header")
