"""Checks on a batch that somebody wants to append.

``check_header`` is the whole hot path beside the CRC: O(1), header fields only. ``check_records`` opens the
batch and is for topics that demand it (compacted: no null keys; ``tierlog.validate.records``). Both raise
InvalidBatch with the code that Kafka answers, and change nothing.
"""

from __future__ import annotations

from tierlog.errors import ErrorCode
from tierlog.records.batch import (
    COMPRESSION_MASK,
    CONTROL_BIT,
    HEADER_BYTES,
    LOG_APPEND_TIME_BIT,
    LOG_OVERHEAD_BYTES,
    TRANSACTIONAL_BIT,
    BatchHeader,
    Compression,
    InvalidBatch,
)
from tierlog.records.compression import output_limit
from tierlog.records.records import read_records, records_body
from tierlog.records.spans import MIN_RECORD_BYTES, record_spans
from tierlog.types import NO_TIMESTAMP, Buffer

_LAST_CODEC = int(Compression.ZSTD)


class InvalidRecords(InvalidBatch):
    """Single records are at fault; ``record_errors`` has (index in the batch, reason), as Produce v8
    answers."""

    def __init__(self, error_code: ErrorCode, record_errors: list[tuple[int, str]]) -> None:
        super().__init__(error_code, "one or more records have been rejected")
        self.record_errors = record_errors


def has_room(attributes: int, body_bytes: int, count: int) -> bool:
    """Whether ``body_bytes`` can be ``count`` records: of seven bytes each, or packed as far as is ever unpacked."""
    if not attributes & COMPRESSION_MASK:
        return count * MIN_RECORD_BYTES <= body_bytes
    return body_bytes > 0 and count * MIN_RECORD_BYTES <= output_limit(body_bytes)


def check_header(
    header: BatchHeader,
    *,
    is_client: bool,
    earliest_timestamp_ms: int = NO_TIMESTAMP,
    latest_timestamp_ms: int | None = None,
) -> None:
    """Count, offset range, codec, producer fields, and for CreateTime the bounds on record timestamps.

    ``is_client``: not a coordinator or a replica: then no control batches and no server-side attributes. The
    timestamp bounds are inclusive; pass none for LogAppendTime topics.
    """
    count = header[12]
    if count <= 0 or count != header[6] + 1:
        raise InvalidBatch(ErrorCode.INVALID_RECORD, f"{count} records in a batch of {header[6] + 1} offsets")
    attributes = header[5]
    if attributes & COMPRESSION_MASK > _LAST_CODEC:
        raise InvalidBatch(
            ErrorCode.CORRUPT_MESSAGE, f"unknown compression type {attributes & COMPRESSION_MASK}"
        )
    if header[9] >= 0:
        if header[11] < 0 and not attributes & CONTROL_BIT:
            raise InvalidBatch(
                ErrorCode.INVALID_RECORD, f"sequence {header[11]} in a batch of producer {header[9]}"
            )
    elif attributes & TRANSACTIONAL_BIT:
        raise InvalidBatch(ErrorCode.INVALID_RECORD, "transactional batch without a producer id")
    if is_client and attributes & CONTROL_BIT:
        raise InvalidBatch(ErrorCode.INVALID_RECORD, "clients may not write control records")
    body_bytes = header[1] + LOG_OVERHEAD_BYTES - HEADER_BYTES
    if is_client and not has_room(attributes, body_bytes, count):
        raise InvalidBatch(ErrorCode.INVALID_RECORD, f"{count} records announced in {body_bytes} bytes")
    if latest_timestamp_ms is not None and max(header[7], header[8]) > latest_timestamp_ms:
        raise InvalidBatch(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {max(header[7], header[8])} is above {latest_timestamp_ms}",
        )
    if NO_TIMESTAMP < header[7] < earliest_timestamp_ms:
        raise InvalidBatch(
            ErrorCode.INVALID_TIMESTAMP, f"timestamp {header[7]} is below {earliest_timestamp_ms}"
        )
    if is_client and attributes & LOG_APPEND_TIME_BIT:
        raise InvalidBatch(
            ErrorCode.INVALID_TIMESTAMP, "clients may not set the timestamp type to LogAppendTime"
        )


def timestamp_errors(
    buf: Buffer, pos: int, header: BatchHeader, earliest_ms: int, latest_ms: int
) -> list[tuple[int, str]]:
    """(index, reason) of each record at fault in a batch that was refused for its timestamps; empty where the batch
    cannot be opened. Both bounds are inclusive. Not for the hot path."""
    if header.attributes & LOG_APPEND_TIME_BIT:
        reason = "clients may not set the timestamp type to LogAppendTime"
        return [(index, reason) for index in range(min(header.records_count, len(buf)))]
    try:
        spans = record_spans(records_body(buf, pos, header), header.records_count)
    except InvalidBatch:
        return []
    times = [header.base_timestamp + span[2] for span in spans]
    return [
        (index, f"timestamp {time} is outside {earliest_ms} to {latest_ms}")
        for index, time in enumerate(times)
        if time > latest_ms or NO_TIMESTAMP < time < earliest_ms
    ]


def check_records(
    buf: Buffer, pos: int, header: BatchHeader, *, keys_required: bool, deep: bool = True
) -> None:
    """Open the batch: record count and sizes, offset deltas 0, 1, 2, ..., and with ``keys_required`` no
    null key.

    ``deep`` reads the record headers too and checks that the largest timestamp is the batch's.
    """
    body = records_body(buf, pos, header)
    spans = record_spans(body, header.records_count)
    for index, span in enumerate(spans):
        if span[3] != index:
            raise InvalidBatch(ErrorCode.INVALID_RECORD, f"record {index} has offset delta {span[3]}")
    if keys_required:
        missing = [
            (index, "Compacted topic cannot accept message without key")
            for index, span in enumerate(spans)
            if span[4] < 0
        ]
        if missing:
            raise InvalidRecords(ErrorCode.INVALID_RECORD, missing)
    if deep:
        records = read_records(buf, pos, header)
        largest = max([record.timestamp for record in records])
        if largest != header.max_timestamp:
            raise InvalidBatch(
                ErrorCode.INVALID_RECORD, f"max timestamp {header.max_timestamp}, records up to {largest}"
            )
