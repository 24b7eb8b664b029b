"""Checks on a batch before it is appended.

``check_header`` is all that the hot path does beside the CRC: O(1), header fields only. ``check_records`` opens the
batch, for topics that demand it (compacted: no null keys; ``tierlog.validate.records``). Both raise InvalidBatch
with the code that Kafka answers, and change nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

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
from tierlog.records.compression import TooMuchOutput, opened_limit, output_limit, unpacked
from tierlog.records.records import record_headers, records_body
from tierlog.records.spans import MIN_RECORD_BYTES, record_spans, span_groups
from tierlog.records.steps import finished
from tierlog.types import NO_TIMESTAMP, Buffer

# Bound on opening at an append: so many records of a batch, or as many as it has room for when it is not compressed.
OPENED_RECORDS_MAX = 250_000
# A refusal names at most so many records.
RECORD_ERRORS_MAX = 100
# A batch of up to so many bytes may be opened in one step of the loop: a few milliseconds.
SMALL_BATCH_BYTES = 32 * 1024
SMALL_RECORDS_COUNT = 4096
SMALL_OUTPUT_BYTES = 256 * 1024
_LAST_CODEC = int(Compression.ZSTD)


class InvalidRecords(InvalidBatch):
    """Single records are at fault; ``record_errors`` holds (index in the batch, reason), as Produce v8 answers
    them."""

    def __init__(self, error_code: ErrorCode, record_errors: list[tuple[int, str]]) -> None:
        super().__init__(error_code, "one or more records have been rejected")
        self.record_errors = record_errors


def has_room(attributes: int, body_bytes: int, count: int) -> bool:
    """Whether ``count`` records fit into ``body_bytes``: seven bytes each, or the most that a codec is allowed to unpack."""
    if not attributes & COMPRESSION_MASK:
        return count * MIN_RECORD_BYTES <= body_bytes
    return body_bytes > 0 and count * MIN_RECORD_BYTES <= output_limit(body_bytes)


def check_header(
    header: BatchHeader,
    *,
    is_client: bool,
    earliest_timestamp_ms: int = -(2**63),
    latest_timestamp_ms: int | None = None,
) -> None:
    """Count, offset range, codec, producer fields, and for CreateTime the bounds on record timestamps.

    ``is_client``: the batch comes from a client, not from a coordinator or a replica: then no control batches and
    no server-side attributes. The timestamp bounds are inclusive; pass none for LogAppendTime topics.
    """
    count = header.records_count
    if count <= 0 or count != header.last_offset_delta + 1:
        raise InvalidBatch(
            ErrorCode.INVALID_RECORD, f"{count} records in a batch of {header.last_offset_delta + 1} offsets"
        )
    attributes = header.attributes
    if attributes & COMPRESSION_MASK > _LAST_CODEC:
        raise InvalidBatch(
            ErrorCode.CORRUPT_MESSAGE, f"unknown compression type {attributes & COMPRESSION_MASK}"
        )
    if header.producer_id >= 0:
        if header.base_sequence < 0 and not attributes & CONTROL_BIT:
            raise InvalidBatch(
                ErrorCode.INVALID_RECORD,
                f"sequence {header.base_sequence} in a batch of producer {header.producer_id}",
            )
    elif attributes & TRANSACTIONAL_BIT:
        raise InvalidBatch(ErrorCode.INVALID_RECORD, "transactional batch without a producer id")
    if is_client and attributes & CONTROL_BIT:
        raise InvalidBatch(ErrorCode.INVALID_RECORD, "clients may not write control records")
    body_bytes = header.batch_length + LOG_OVERHEAD_BYTES - HEADER_BYTES
    if is_client and not has_room(attributes, body_bytes, count):
        raise InvalidBatch(ErrorCode.INVALID_RECORD, f"{count} records announced in {body_bytes} bytes")
    if (
        latest_timestamp_ms is not None
        and max(header.base_timestamp, header.max_timestamp) > latest_timestamp_ms
    ):
        raise InvalidBatch(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {max(header.base_timestamp, header.max_timestamp)} is above {latest_timestamp_ms}",
        )
    if earliest_timestamp_ms > header.base_timestamp != NO_TIMESTAMP:
        raise InvalidBatch(
            ErrorCode.INVALID_TIMESTAMP, f"timestamp {header.base_timestamp} is below {earliest_timestamp_ms}"
        )
    if is_client and attributes & LOG_APPEND_TIME_BIT:
        raise InvalidBatch(
            ErrorCode.INVALID_TIMESTAMP, "clients may not set the timestamp type to LogAppendTime"
        )


def timestamp_errors(
    buf: Buffer, pos: int, header: BatchHeader, earliest_ms: int, latest_ms: int
) -> list[tuple[int, str]]:
    """(index, reason) of the first records at fault in a batch that was refused for its timestamps. Empty when the batch
    cannot be opened, or not at once. Both bounds are inclusive. Not for the hot path."""
    if header.attributes & LOG_APPEND_TIME_BIT:
        reason = "clients may not set the timestamp type to LogAppendTime"
        return [(index, reason) for index in range(min(header.records_count, RECORD_ERRORS_MAX))]
    if not is_small(header):
        return []
    try:
        body = records_body(buf, pos, header, SMALL_OUTPUT_BYTES)
        spans = record_spans(body, header.records_count)
    except InvalidBatch:
        return []
    times = [header.base_timestamp + span[2] for span in spans]
    return [
        (index, f"timestamp {time} is outside {earliest_ms} to {latest_ms}")
        for index, time in enumerate(times)
        if time > latest_ms or earliest_ms > time != NO_TIMESTAMP
    ][:RECORD_ERRORS_MAX]


def is_small(header: BatchHeader) -> bool:
    """Whether the batch may be opened at once, provided that at most ``SMALL_OUTPUT_BYTES`` come out of it."""
    return header.batch_length <= SMALL_BATCH_BYTES and header.records_count <= SMALL_RECORDS_COUNT


def checking(
    buf: Buffer,
    pos: int,
    header: BatchHeader,
    *,
    keys_required: bool,
    deep: bool = True,
    limit_bytes: int | None = None,
) -> Generator[None]:
    """Open the batch piece by piece and check record count and sizes, offset deltas 0, 1, 2, ..., and with
    ``keys_required`` no null key. Ends at the first malformed record, and after ``RECORD_ERRORS_MAX`` records without a key.

    ``deep`` also reads the record headers and checks that the largest timestamp is the batch's. Raises InvalidBatch:
    MESSAGE_TOO_LARGE for more records or bytes than may be opened, so that a producer splits the batch; above
    ``limit_bytes`` TooMuchOutput."""
    end = pos + header.size_bytes
    if end > len(buf):
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "batch is cut off")
    packed = memoryview(buf)[pos + HEADER_BYTES : end]
    if header.records_count > max(OPENED_RECORDS_MAX, len(packed) // MIN_RECORD_BYTES):
        raise _too_large(f"{header.records_count} records in {len(packed)} bytes")
    limit = opened_limit(len(packed)) if limit_bytes is None else limit_bytes
    try:
        yield from _checked(unpacked(header.compression, packed, limit), header, keys_required, deep)
    except TooMuchOutput as error:
        if limit_bytes is not None:
            raise
        raise _too_large(str(error)) from error


def _too_large(reason: str) -> InvalidBatch:
    return InvalidBatch(ErrorCode.MESSAGE_TOO_LARGE, reason)


def _checked(
    pieces: Iterator[bytes], header: BatchHeader, keys_required: bool, deep: bool
) -> Generator[None]:
    index = 0
    largest = NO_TIMESTAMP if header.records_count == 0 else -(2**63)
    missing: list[tuple[int, str]] = []
    for body, spans in span_groups(pieces, header.records_count, whole_records=deep):
        view = memoryview(body)
        for span in spans:
            if span[3] != index:
                raise InvalidBatch(ErrorCode.INVALID_RECORD, f"record {index} has offset delta {span[3]}")
            if keys_required and span[4] < 0:
                missing.append((index, "Compacted topic cannot accept message without key"))
                if len(missing) == RECORD_ERRORS_MAX:
                    raise InvalidRecords(ErrorCode.INVALID_RECORD, missing)
            if deep:
                largest = max(largest, header.base_timestamp + span[2])
                if span[1] - span[7] != 1 or body[span[7]]:
                    for _ in record_headers(body, view, span[7], span[1]):
                        pass
            index += 1
        yield
    if missing:
        raise InvalidRecords(ErrorCode.INVALID_RECORD, missing)
    if deep and largest != header.max_timestamp and not header.attributes & LOG_APPEND_TIME_BIT:
        raise InvalidBatch(
            ErrorCode.INVALID_RECORD, f"max timestamp {header.max_timestamp}, records up to {largest}"
        )


def check_records(
    buf: Buffer,
    pos: int,
    header: BatchHeader,
    *,
    keys_required: bool,
    deep: bool = True,
    limit_bytes: int | None = None,
) -> None:
    """Run ``checking`` at once."""
    finished(checking(buf, pos, header, keys_required=keys_required, deep=deep, limit_bytes=limit_bytes))
