"""Request and result of an append, and the header checks before it: pure functions of bytes and config.

Rules

* Headers only. Records are opened by ``records``, and only where ``AppendRules.opens_records`` says so.
* Every refusal happens here: prepared batches can be written and remembered without fail (``writing``).
* Codes and their order are Kafka's (analysis of the batch first, then validation, then the producer's state);
  a refused request appends nothing at all.
* Produce requests carry one batch, but nothing here depends on that.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from tierlog.config.topic import TopicConfig
from tierlog.errors import ErrorCode
from tierlog.kernel import compiled
from tierlog.log.indexes import MAX_RELATIVE_OFFSET
from tierlog.log.leader_epochs import EpochLineage
from tierlog.log.producers.state import KnownBatch, ProducerState
from tierlog.records.batch import (
    COMPRESSION_MASK,
    CONTROL_BIT,
    HEADER_BYTES,
    LOG_OVERHEAD_BYTES,
    BatchHeader,
    Compression,
    InvalidBatch,
    parse_header,
    restamp,
    stamp,
    verify_crc,
)
from tierlog.records.compression import (
    MAX_RATIO,
    MIN_OUTPUT_LIMIT_BYTES,
    TooMuchOutput,
    opened_limit,
)
from tierlog.records.control import EndTransactionMarker, read_end_transaction_marker, readable_marker
from tierlog.records.records import assemble, records_body
from tierlog.records.spans import MIN_RECORD_BYTES
from tierlog.records.validate import (
    SMALL_OUTPUT_BYTES,
    InvalidRecords,
    check_header,
    check_records,
    checking,
    has_room,
    is_small,
    timestamp_errors,
)
from tierlog.types import NO_TIMESTAMP, UNKNOWN_OFFSET

MAX_CODEC = int(max(Compression))
MAX_OFFSET = 2**63 - 1  # the log end offset is exclusive and must be a valid offset too
# Byte position in the appended records -> the transaction marker at that position.
Markers: TypeAlias = Mapping[int, EndTransactionMarker]
NO_MARKERS: Markers = MappingProxyType({})
NO_EPOCH = -(2**31)
"""Below all that a batch can hold."""
_new_tuple = tuple.__new__


class AppendOrigin(Enum):
    """Who made the batches. Only a client's are checked in full; a client must not write control batches."""

    CLIENT = "client"
    COORDINATOR = "coordinator"
    REPLICATION = "replication"


class RecordError(NamedTuple):
    """One refused record of a batch, as Produce v8 and later report it."""

    batch_index: int
    message: str


class AppendResult(NamedTuple):
    """With ``error`` NONE, offsets ``[base_offset, last_offset]`` are in the log; ``is_duplicate``: from an earlier append.

    ``append_time_ms``: the time stamped with LogAppendTime, else -1; of a duplicate its largest timestamp."""

    error: ErrorCode
    base_offset: int = UNKNOWN_OFFSET
    last_offset: int = UNKNOWN_OFFSET
    append_time_ms: int = NO_TIMESTAMP
    log_start_offset: int = UNKNOWN_OFFSET
    error_message: str | None = None
    is_duplicate: bool = False
    record_errors: tuple[RecordError, ...] = ()


class AppendRules:
    """The part of a TopicConfig that each append needs, precomputed."""

    __slots__ = (
        "after_max_ms",
        "before_max_ms",
        "codec",
        "demands_keys",
        "is_log_append_time",
        "max_message_bytes",
        "opens_records",
        "plain",
        "segment_bytes",
        "validates_records",
    )

    def __init__(self, config: TopicConfig) -> None:
        self.max_message_bytes = config.max_message_bytes
        self.segment_bytes = config.segment_bytes
        self.before_max_ms = config.message_timestamp_before_max_ms
        self.after_max_ms = config.message_timestamp_after_max_ms
        self.is_log_append_time = config.message_timestamp_type == "LogAppendTime"
        self.codec = codec_of(config.compression_type)  # None: as the producer sent it
        self.demands_keys = config.is_compacted
        self.validates_records = config.tierlog_validate_records
        self.opens_records = self.demands_keys or self.validates_records
        # What the kernel compares a header with; None where a batch must be opened or stamped anew.
        self.plain: tuple[int, ...] | None = None
        if not (self.opens_records or self.is_log_append_time) and self.codec is None:
            bounds = (self.max_message_bytes, self.segment_bytes, self.before_max_ms, self.after_max_ms)
            self.plain = (*bounds, MAX_RATIO, MIN_OUTPUT_LIMIT_BYTES)


def codec_of(compression_type: str) -> Compression | None:
    if compression_type == "producer":
        return None
    return Compression.NONE if compression_type == "uncompressed" else Compression[compression_type.upper()]


class Prepared(NamedTuple):
    """Batches as they will stand in the log, their headers (offsets ascending), and the transaction markers among them."""

    records: memoryview
    headers: list[BatchHeader]
    markers: Markers


class NotAtOnce(Exception):
    """A batch must be opened, and that takes long: run ``opening`` in a thread, then append again."""


class Opened(NamedTuple):
    """How the records were opened before the append. ``by``: the rules under which they were opened and checked already;
    ``at_once``: only small batches may be opened now, others raise NotAtOnce."""

    by: AppendRules | None = None
    at_once: bool = False


NOT_OPENED = Opened()
AT_ONCE = Opened(at_once=True)


def opening(records: memoryview, rules: AppendRules) -> Generator[None]:
    """Open a client's batches in steps and check them by ``rules``. Raises InvalidBatch."""
    position = 0
    while position < len(records):
        header = parse_header(records, position)
        yield from checking(
            records, position, header, keys_required=rules.demands_keys, deep=rules.validates_records
        )
        position += header.size_bytes


def _open(records: memoryview, position: int, header: BatchHeader, rules: AppendRules, at_once: bool) -> None:
    """Raises NotAtOnce, InvalidBatch."""
    if at_once and not is_small(header):
        raise NotAtOnce
    limit_bytes = SMALL_OUTPUT_BYTES if at_once else None
    deep = rules.validates_records
    try:
        check_records(
            records, position, header, keys_required=rules.demands_keys, deep=deep, limit_bytes=limit_bytes
        )
    except TooMuchOutput:
        raise NotAtOnce from None


def client_batches(
    records: memoryview, rules: AppendRules, now_ms: int, opened: Opened = NOT_OPENED
) -> list[BatchHeader]:
    """The headers of a client's request, all checked. Raises InvalidBatch with Kafka's code, and NotAtOnce."""
    size = len(records)
    if size == 0:
        raise InvalidBatch(ErrorCode.INVALID_RECORD, "no record batch")
    headers = []
    position = 0
    while position < size:
        header = parse_header(records, position)
        end = position + LOG_OVERHEAD_BYTES + header.batch_length
        if end > size:
            raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"the batch at {position} is cut off")
        _check_client_batch(records, position, header, rules, now_ms)
        if rules.opens_records and opened.by is not rules:
            _open(records, position, header, rules, opened.at_once)
        headers.append(header)
        position = end
    if size > rules.segment_bytes:
        raise InvalidBatch(
            ErrorCode.RECORD_LIST_TOO_LARGE, f"{size} bytes exceed segment.bytes of {rules.segment_bytes}"
        )
    return headers


def _check_client_batch(
    records: memoryview, position: int, header: BatchHeader, rules: AppendRules, now_ms: int
) -> None:
    size_bytes = LOG_OVERHEAD_BYTES + header.batch_length
    if header.base_offset != 0:
        raise InvalidBatch(
            ErrorCode.INVALID_RECORD, f"the base offset should be 0 and is {header.base_offset}"
        )
    if size_bytes > rules.max_message_bytes:
        raise InvalidBatch(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"{size_bytes} bytes exceed max.message.bytes of {rules.max_message_bytes}",
        )
    if not verify_crc(records, position, header):
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "the checksum of the batch does not match")
    attributes, count = header.attributes, header.records_count
    body_bytes = size_bytes - HEADER_BYTES
    is_plain = (
        0 <= attributes <= MAX_CODEC  # a codec, and no other bit; the field is signed
        and count == header.last_offset_delta + 1 > 0
        and (
            count * MIN_RECORD_BYTES <= body_bytes or (attributes and has_room(attributes, body_bytes, count))
        )
        and (header.base_sequence >= 0 or header.producer_id < 0)
        and (
            rules.is_log_append_time
            or now_ms - rules.before_max_ms
            <= header.base_timestamp
            <= header.max_timestamp
            <= now_ms + rules.after_max_ms
        )
    )
    if not is_plain:
        _check_closely(records, position, header, rules, now_ms)


def _check_closely(
    records: memoryview, position: int, header: BatchHeader, rules: AppendRules, now_ms: int
) -> None:
    """The slow path for unusual headers: most of them are refused, with the reason."""
    codec = header.attributes & COMPRESSION_MASK
    if codec > MAX_CODEC:
        raise InvalidBatch(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"unknown compression {codec}")
    earliest_ms, latest_ms = now_ms - rules.before_max_ms, now_ms + rules.after_max_ms
    try:
        if rules.is_log_append_time:
            check_header(header, is_client=True)
        else:
            check_header(
                header, is_client=True, earliest_timestamp_ms=earliest_ms, latest_timestamp_ms=latest_ms
            )
    except InvalidBatch as refusal:
        if refusal.error_code is not ErrorCode.INVALID_TIMESTAMP:
            raise
        errors = timestamp_errors(records, position, header, earliest_ms, latest_ms)
        raise InvalidRecords(ErrorCode.INVALID_TIMESTAMP, errors) from refusal


def own_batches(records: memoryview) -> list[BatchHeader]:
    """Headers of batches that this process built. Anything but whole batches is a bug."""
    headers = []
    position = 0
    while position < len(records):
        header = parse_header(records, position)
        headers.append(header)
        position += LOG_OVERHEAD_BYTES + header.batch_length
    assert headers and position == len(records), "own batches are whole"
    return headers


def replicated_batches(records: memoryview, log_end_offset: int, epochs: EpochLineage) -> Prepared:
    """The part of a leader's fetch reply that one append takes: it ends before a batch that is cut off, or whose offsets
    are too far above the first one's for one segment.

    Raises InvalidBatch for a bad checksum, and for an offset or leader epoch lower than the log has reached."""
    headers: list[BatchHeader] = []
    markers: dict[int, EndTransactionMarker] = {}
    position, size, expected = 0, len(records), log_end_offset
    epoch = epochs.epoch_for_offset(log_end_offset - 1)
    if compiled is not None:
        headers, position = compiled.followed(
            records, log_end_offset, NO_EPOCH if epoch is None else epoch, BatchHeader
        )
        if headers:
            expected, epoch = headers[-1].next_offset, headers[-1].partition_leader_epoch
    while size - position >= HEADER_BYTES:
        header = parse_header(records, position)
        end = position + LOG_OVERHEAD_BYTES + header.batch_length
        if end > size:
            break
        if not verify_crc(records, position, header):
            raise InvalidBatch(
                ErrorCode.CORRUPT_MESSAGE, f"the checksum at offset {header.base_offset} does not match"
            )
        if header.base_offset < expected:
            raise InvalidBatch(
                ErrorCode.CORRUPT_MESSAGE, f"offset {header.base_offset} after log end {expected}"
            )
        if epoch is not None and header.partition_leader_epoch < epoch:
            raise InvalidBatch(
                ErrorCode.CORRUPT_MESSAGE, f"leader epoch {header.partition_leader_epoch} after {epoch}"
            )
        expected, epoch = header.next_offset, header.partition_leader_epoch
        if expected > MAX_OFFSET:
            raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"offset {header.last_offset} is none")
        if headers and header.last_offset - headers[0].base_offset > MAX_RELATIVE_OFFSET:
            break
        if header.is_control and header.has_producer_id:
            marker = readable_marker(records, position, header)
            if marker is not None:
                markers[position] = marker
        headers.append(header)
        position = end
    return Prepared(records[:position], headers, markers)


def own_markers(records: memoryview, headers: list[BatchHeader]) -> Markers:
    """Raises InvalidBatch for a control batch that cannot be read."""
    markers = {}
    position = 0
    for header in headers:
        if header.attributes & CONTROL_BIT and header.producer_id >= 0:
            marker = read_end_transaction_marker(records, position, header)
            if marker is not None:
                markers[position] = marker
        position += LOG_OVERHEAD_BYTES + header.batch_length
    return markers or NO_MARKERS


def check_sizes(headers: list[BatchHeader], rules: AppendRules) -> None:
    """Check sizes again after batches were rewritten, as Kafka does. Raises InvalidBatch."""
    sizes = [header.size_bytes for header in headers]
    if max(sizes) > rules.max_message_bytes:
        raise InvalidBatch(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"{max(sizes)} bytes, recompressed, exceed max.message.bytes of {rules.max_message_bytes}",
        )
    if sum(sizes) > rules.segment_bytes:
        raise InvalidBatch(
            ErrorCode.RECORD_LIST_TOO_LARGE,
            f"{sum(sizes)} bytes, recompressed, exceed segment.bytes of {rules.segment_bytes}",
        )


def recompressed(
    records: memoryview, headers: list[BatchHeader], codec: Compression, rules: AppendRules
) -> tuple[memoryview, list[BatchHeader]]:
    """The same records under the topic's ``compression.type``; producer fields are kept. Raises InvalidBatch."""
    if all(header.attributes & COMPRESSION_MASK == codec for header in headers):
        return records, headers
    rewritten = bytearray()
    position = 0
    for header in headers:
        attributes = header.attributes & ~COMPRESSION_MASK | codec
        # A batch that stays as it is must keep to max.message.bytes; one that is compressed anew is opened like any other.
        limit = rules.max_message_bytes if codec is Compression.NONE else opened_limit(header.size_bytes)
        try:
            body = records_body(records, position, header, limit)
        except TooMuchOutput as error:
            raise InvalidBatch(ErrorCode.MESSAGE_TOO_LARGE, str(error)) from error
        rewritten += assemble(header._replace(attributes=attributes), body)
        position += LOG_OVERHEAD_BYTES + header.batch_length
    view = memoryview(rewritten)
    return view, own_batches(view)


def refused(refusal: InvalidBatch) -> AppendResult:
    errors = refusal.record_errors if isinstance(refusal, InvalidRecords) else []
    return AppendResult(
        refusal.error_code,
        error_message=str(refusal),
        record_errors=tuple(RecordError(index, message) for index, message in errors),
    )


def prepare_leader_append(
    records: memoryview,
    rules: AppendRules,
    producers: ProducerState,
    log_end_offset: int,
    leader_epoch: int,
    now_ms: int,
    origin: AppendOrigin,
    opened: Opened = NOT_OPENED,
) -> Prepared | AppendResult:
    """Check, recompress where the topic says so, assign offsets from ``log_end_offset`` on, stamp in place.

    An AppendResult is already the answer: a refusal or a duplicate. Its log start offset is not filled in."""
    is_client = origin is AppendOrigin.CLIENT
    markers = NO_MARKERS
    try:
        headers = client_batches(records, rules, now_ms, opened) if is_client else own_batches(records)
        if not is_client:
            markers = own_markers(records, headers)
        elif rules.codec is not None:
            records, headers = recompressed(records, headers, rules.codec, rules)
            check_sizes(headers, rules)
    except InvalidBatch as refusal:
        return refused(refusal)
    position = 0
    offset = log_end_offset
    placed = []
    for header in headers:
        if header.producer_id >= 0:
            answer = _producer_answer(header, producers, is_client, markers.get(position))
            if answer is not None:
                return answer
        if offset + header.last_offset_delta >= MAX_OFFSET:
            return AppendResult(ErrorCode.INVALID_RECORD, error_message=f"no offset is left after {offset}")
        stamp(records, position, offset, leader_epoch)
        if rules.is_log_append_time:
            restamp(records, position, header, now_ms)
            header = parse_header(records, position)
        else:
            header = _new_tuple(BatchHeader, (offset, header.batch_length, leader_epoch, *header[3:]))
        placed.append(header)
        offset += header.last_offset_delta + 1
        position += LOG_OVERHEAD_BYTES + header.batch_length
    return _new_tuple(Prepared, (records, placed, markers))


def _producer_answer(
    header: BatchHeader, producers: ProducerState, is_client: bool, marker: EndTransactionMarker | None
) -> AppendResult | None:
    """None: append the batch. Else the answer: a duplicate's offsets, or the refusal of its sequence, epoch or marker."""
    if is_client:
        verdict = producers.check(header)
        if verdict is ErrorCode.NONE:
            return None
        if isinstance(verdict, KnownBatch):
            # Kafka answers a duplicate with the time of its first append, or of its records with CreateTime.
            first, last = verdict.first_offset, verdict.last_offset
            return AppendResult(ErrorCode.NONE, first, last, verdict.timestamp, is_duplicate=True)
    else:
        verdict = ErrorCode.NONE if marker is None else producers.check_marker(header, marker)
        if verdict is ErrorCode.NONE:
            return None
    who = f"producer {header.producer_id} epoch {header.producer_epoch} sequence {header.base_sequence}"
    return AppendResult(verdict, error_message=f"{who}: {verdict.name}")
